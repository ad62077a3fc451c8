"""The numbers in our texts: each is computed from a file of this repository (CONTRIBUTING.md says how)."""
