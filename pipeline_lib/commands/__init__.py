"""The commands of `unlearning`, one file a family.

Each file has `add(commands)`, which adds its commands to the parser. What a command needs is imported when it
runs, so that a short command starts quickly.
"""
