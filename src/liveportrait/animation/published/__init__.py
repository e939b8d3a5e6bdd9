"""`--as-published`: exactly what the published program does, for those who bring its weights.

`options.py` has its choices as defaults, `transfer.py` what it does with motion. `OptionGroup.as_published` covers what
else it does differently: pictures are scaled down bilinearly, crops of a source video do not glide, and pasted faces do
not make way for other people's heads. docs/reference/published.md lists every remaining difference.
"""
