/* A worker: its timer also runs while the page is hidden, so the page can say that it only holds. */
setInterval(() => postMessage(0), 50);
