"""The ASGI application that `liveportrait serve`, `app` and `live` share."""
