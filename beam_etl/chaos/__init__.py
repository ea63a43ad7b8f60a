"""Loads under attack, and an oracle that counts what broke."""
