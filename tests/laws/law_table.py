"""The table: every public function of measures, room by room."""

from law_table_attention import ATTENTION
from law_table_measure import MEASURE
from law_table_transport import TRANSPORT


SUBJECTS = [*MEASURE, *TRANSPORT, *ATTENTION]
