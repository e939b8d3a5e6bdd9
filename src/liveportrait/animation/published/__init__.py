"""`--as-published`: what the published program does, to the letter, for those who bring its weights.

`options.py` holds its choices as defaults, `transfer.py` what it does with motion. What else it does in another way
(`OptionGroup.as_published`): pictures are reduced bilinearly, crops of a source video do not glide, and what is pasted
back does not yield to other people's heads. docs/reference/published.md lists every difference that remains.
"""
