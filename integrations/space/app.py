from liveportrait.apps.app import App

App(host="0.0.0.0", port=7860, open=False).run()
