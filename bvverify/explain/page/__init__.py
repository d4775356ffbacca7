"""The page: results as one self-contained HTML file that computes with exact integers.

``results`` reads what ``--json`` printed and the model that it is about; ``networks`` and ``tree`` turn networks and certificates into
plain JSON data; ``document`` puts the data, the style and the scripts of ``js/`` into one file.
"""
