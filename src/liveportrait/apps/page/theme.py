"""The page's theme: colours and fonts. Everything else is in page.css."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLES = Path(__file__).with_name("page.css")

# System fonts: the page downloads none.
_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_CODE_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

_PAPER, _CARD, _LINE, _INK, _FADED = "#f6f5f2", "#ffffff", "#e3e0d9", "#1d1c1a", "#6d6a63"
_NIGHT, _NIGHT_CARD, _NIGHT_LINE, _MOON, _NIGHT_FADED = "#131415", "#1c1e1f", "#303335", "#ecebe8", "#a3a29d"
_ACCENT, _ACCENT_DEEP, _NIGHT_ACCENT, _NIGHT_ACCENT_BRIGHT = "#22617a", "#184d62", "#7dbdd6", "#9bd0e5"
_NIGHT_ON_ACCENT = "#0d1b21"
_WASH, _NIGHT_WASH = "#edf3f5", "#22323a"  # background of selected items


def theme() -> gr.themes.Base:
    """A paper-like theme with one accent colour, light and dark."""
    by_day_and_night = {
        "body_background_fill": (_PAPER, _NIGHT),
        "body_text_color": (_INK, _MOON),
        "body_text_color_subdued": (_FADED, _NIGHT_FADED),
        "background_fill_primary": (_CARD, _NIGHT_CARD),
        "background_fill_secondary": (_PAPER, _NIGHT),
        "border_color_primary": (_LINE, _NIGHT_LINE),
        "border_color_accent": (_ACCENT, _NIGHT_ACCENT),
        "color_accent_soft": (_WASH, _NIGHT_WASH),
        "link_text_color": (_ACCENT, _NIGHT_ACCENT),
        "link_text_color_hover": (_ACCENT_DEEP, _NIGHT_ACCENT_BRIGHT),
        "block_background_fill": (_CARD, _NIGHT_CARD),
        "block_border_color": (_LINE, _NIGHT_LINE),
        "block_border_width": ("0px", "0px"),
        "block_shadow": ("none", "none"),
        "block_label_background_fill": ("transparent", "transparent"),
        "block_label_text_color": (_FADED, _NIGHT_FADED),
        "block_title_text_color": (_INK, _MOON),
        "block_info_text_color": (_FADED, _NIGHT_FADED),
        "input_background_fill": (_PAPER, _NIGHT),
        "input_background_fill_focus": (_PAPER, _NIGHT),
        "input_border_color": (_LINE, _NIGHT_LINE),
        "input_border_color_focus": (_ACCENT, _NIGHT_ACCENT),
        "input_placeholder_color": (_FADED, _NIGHT_FADED),
        "slider_color": (_ACCENT, _NIGHT_ACCENT),
        "loader_color": (_ACCENT, _NIGHT_ACCENT),
        "checkbox_background_color_selected": (_ACCENT, _NIGHT_ACCENT),
        "checkbox_border_color_selected": (_ACCENT, _NIGHT_ACCENT),
        "checkbox_label_background_fill": (_CARD, _NIGHT_CARD),
        "checkbox_label_background_fill_hover": (_WASH, _NIGHT_WASH),
        "checkbox_label_background_fill_selected": (_WASH, _NIGHT_WASH),
        "checkbox_label_border_color": (_LINE, _NIGHT_LINE),
        "checkbox_label_border_color_selected": (_ACCENT, _NIGHT_ACCENT),
        "checkbox_label_text_color_selected": (_INK, _MOON),
        "button_primary_background_fill": (_ACCENT, _NIGHT_ACCENT),
        "button_primary_background_fill_hover": (_ACCENT_DEEP, _NIGHT_ACCENT_BRIGHT),
        "button_primary_text_color": ("#ffffff", _NIGHT_ON_ACCENT),
        "button_primary_text_color_hover": ("#ffffff", _NIGHT_ON_ACCENT),
        "button_primary_border_color": ("transparent", "transparent"),
        "button_secondary_background_fill": (_CARD, _NIGHT_CARD),
        "button_secondary_background_fill_hover": (_WASH, _NIGHT_WASH),
        "button_secondary_border_color": (_LINE, _NIGHT_LINE),
        "button_secondary_text_color": (_INK, _MOON),
        "accordion_text_color": (_INK, _MOON),
    }
    settings = {name: day for name, (day, _) in by_day_and_night.items()}
    settings |= {f"{name}_dark": night for name, (_, night) in by_day_and_night.items()}
    base = gr.themes.Base(
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_FONTS,
        font_mono=_CODE_FONTS,
    )
    return base.set(
        **settings,
        button_border_width="1px",
        button_large_text_weight="600",
        button_medium_text_weight="500",
        button_small_text_weight="500",
        block_title_text_weight="500",
        block_padding="0px",
        block_radius="12px",
        input_radius="10px",
        button_large_radius="10px",
        button_medium_radius="10px",
        button_small_radius="8px",
        checkbox_border_radius="5px",
        checkbox_label_padding="8px 14px",
        checkbox_label_shadow="none",
        layout_gap="18px",
        form_gap_width="0px",
    )
