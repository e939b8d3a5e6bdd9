"""Portraits that speak: a voice as driver, and live."""
