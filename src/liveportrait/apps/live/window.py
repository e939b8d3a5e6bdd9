"""A window that shows the live portrait, with keys to control it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import PIL.Image

from liveportrait.errors import UserError
from liveportrait.types import Image


class Window:
    """Shows pictures, and runs the actions of keys. A context manager, for the main thread."""

    def __init__(self, title: str, keys: Mapping[str, Callable[[], None]]) -> None:
        """`keys`: letters, or tkinter key names such as Escape."""
        self._title, self._keys = title, keys
        self.is_open = False

    def __enter__(self) -> Window:
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise UserError(
                f"the window needs {error.name}, which is missing: install python3-tk, or use --no-window"
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(
                "there is no display for the window: use --no-window, or leave out --camera and open the page"
            ) from error
        self._photo_image = ImageTk.PhotoImage
        self._root.title(self._title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key, action in self._keys.items():
            name = f"<{key}>" if len(key) > 1 else key
            self._root.bind(name, lambda event, action=action: action())  # type: ignore[misc]
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._root.destroy()

    def close(self) -> None:
        """Stop showing pictures."""
        self.is_open = False

    def __call__(self, picture: Image) -> None:
        """Show a picture (H,W,3) uint8 RGB, and handle the keys pressed since the last one."""
        photo = self._photo_image(PIL.Image.fromarray(picture), master=self._root)
        self._label.configure(image=photo)
        self._shown = photo  # tkinter does not keep it
        self._root.update()
