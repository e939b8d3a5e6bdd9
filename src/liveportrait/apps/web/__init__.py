"""The page that animates in the browser, without a server."""
