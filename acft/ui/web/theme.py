"""Gradio's variables set to the workbench's own (``static/acft.css``); system fonts only."""

from gradio.themes.base import Base

SANS = (
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif",
)  # fmt: skip
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

INK, SOFT, RULE, PAPER, RAISED = (
    f"var(--{name})" for name in ("ink", "ink-soft", "rule", "paper", "paper-raised")
)
TUNED, ON_TUNED = "var(--accent)", "var(--on-accent)"

PLAIN = {
    "body_background_fill": PAPER,
    "body_text_color": INK,
    "body_text_color_subdued": SOFT,
    "background_fill_primary": PAPER,
    "background_fill_secondary": RAISED,
    "border_color_primary": RULE,
    "border_color_accent": TUNED,
    "color_accent_soft": RAISED,
    "link_text_color": TUNED,
    "link_text_color_hover": TUNED,
    "link_text_color_active": TUNED,
    "link_text_color_visited": TUNED,
    "block_background_fill": "transparent",
    "block_border_width": "0px",
    "block_label_background_fill": "transparent",
    "block_label_border_width": "0px",
    "block_label_text_color": SOFT,
    "block_title_text_color": INK,
    "block_title_background_fill": "transparent",
    "block_title_border_width": "0px",
    "block_info_text_color": SOFT,
    "input_background_fill": RAISED,
    "input_background_fill_focus": RAISED,
    "input_border_color": "var(--rule-strong)",
    "input_border_color_focus": TUNED,
    "input_placeholder_color": SOFT,
    "code_background_fill": RAISED,
    "panel_background_fill": "transparent",
    "panel_border_width": "0px",
    "checkbox_background_color": RAISED,
    "checkbox_background_color_selected": TUNED,
    "checkbox_border_color": "var(--rule-strong)",
    "checkbox_border_color_selected": TUNED,
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": RAISED,
    "checkbox_label_background_fill_selected": RAISED,
    "checkbox_label_text_color": INK,
    "checkbox_label_border_color": "var(--rule-strong)",
    "button_primary_background_fill": TUNED,
    "button_primary_background_fill_hover": "var(--accent-strong)",
    "button_primary_text_color": ON_TUNED,
    "button_primary_border_color": TUNED,
    "button_secondary_background_fill": RAISED,
    "button_secondary_background_fill_hover": RULE,
    "button_secondary_text_color": INK,
    "button_secondary_border_color": "var(--rule-strong)",
    "button_cancel_background_fill": "var(--bad)",
    "button_cancel_background_fill_hover": "var(--bad)",
    "button_cancel_text_color": "white",
    "slider_color": TUNED,
    "table_border_color": RULE,
    "table_even_background_fill": PAPER,
    "table_odd_background_fill": PAPER,
    "accordion_text_color": INK,
    "error_background_fill": RAISED,
    "error_text_color": INK,
    "error_border_color": "var(--bad)",
    "error_icon_color": "var(--bad)",
}
"""Variables that have a twin for the dark theme; ours change their value by themselves."""


def theme() -> Base:
    """The theme of all pages."""
    made = Base(font=SANS, font_mono=MONO, text_size="sm", spacing_size="sm", radius_size="sm")
    both = PLAIN | {f"{name}_dark": value for name, value in PLAIN.items()}
    return made.set(
        **both,
        button_border_width="1px",
        input_border_width="1px",
        input_shadow="none",
        block_shadow="none",
        block_padding="0",
        layout_gap="14px",
        form_gap_width="0px",
        block_title_text_weight="600",
        block_label_text_weight="600",
        button_large_text_weight="600",
        button_small_text_weight="500",
        button_medium_text_weight="600",
        input_text_size="13px",
        block_title_text_size="13px",
        block_info_text_size="12px",
    )
