"""The machine and the terminal: device, oneDNN, interrupts, console, cache folder."""
