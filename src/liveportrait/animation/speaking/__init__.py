"""Speaking portraits: driven by recorded or live speech."""
