"""The commands of `onward`, one module each."""
