"""The commands. Nothing here imports torch before the command line has been checked."""
