"""The one ASGI application behind `liveportrait serve`, `app` and `live`."""
