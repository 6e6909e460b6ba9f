"""What the emulator fits, and how a map is made of it."""
