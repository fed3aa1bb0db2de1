"""Networks and how they are trained: image encoder, critics, flat parameter vectors, Adam. Below the policies."""
