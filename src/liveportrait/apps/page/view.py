"""A picture that changes often, without flicker: the old one stays until the new one is decoded."""

from __future__ import annotations

import gradio as gr

# The value is the data URL of a picture, or HTML that is shown below the last picture.
_TEMPLATE = '<figure class="lp-picture lp-view"><img alt="the edited portrait" hidden><div></div></figure>'
_SCRIPT = """
const show = () => {
  const value = props.value || "", image = element.querySelector("img"), said = element.querySelector("figure div");
  if (!value.startsWith("data:")) { said.innerHTML = value; return; }
  const next = new Image();
  next.src = value;
  next.decode().then(() => { image.src = value; image.hidden = false; said.innerHTML = ""; });
};
watch("value", show);
show();
"""


def view(start: str, name: str) -> gr.HTML:
    """A picture element with initial HTML."""
    return gr.HTML(start, html_template=_TEMPLATE, js_on_load=_SCRIPT, elem_id=name)
