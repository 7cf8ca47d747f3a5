// Repeated work while the page is visible.

/** Run a task now and every few seconds, unless the page is hidden, until the signal aborts. */
export function poll(task, seconds, signal) {
  let timer;
  let isRunning = false;
  const run = async () => {
    clearTimeout(timer);
    if (signal.aborted || document.hidden || isRunning) return;
    isRunning = true;
    try {
      await task();
    } finally {
      isRunning = false;
      if (!signal.aborted) timer = setTimeout(run, seconds * 1000);
    }
  };
  document.addEventListener("visibilitychange", run, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  run();
}

/** Return a function that runs a task when it was not called for some milliseconds. */
export function debounce(task, milliseconds) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => task(...args), milliseconds);
  };
}
