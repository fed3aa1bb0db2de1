"""inril without ROS: contract, data, policies, safety, weights, fine-tuning and simulation."""

__version__ = "0.1.0"
