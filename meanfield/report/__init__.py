"""Reports of an audit: a self-contained page, Markdown, CSV, a model card, a table.

Every token, file name and tensor name is untrusted: it is made visible first (`escape.visible`) and
then escaped for the writer at hand.
"""

from .attacks import attacks_csv as attacks_csv
from .escape import visible as visible
from .page import html as html
from .text import heads_csv as heads_csv, markdown as markdown, model_card as model_card
