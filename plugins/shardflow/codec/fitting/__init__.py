"""How one set of numbers was made of another: found by looking at both, before anything is encoded.

Nothing here decides what is stored. A wrong guess costs bytes, and the codecs correct it.
"""
