"""Widgets that several pages have."""

from qfund.ui.pickers.choices import FIELD as FIELD
from qfund.ui.pickers.choices import OFFERED as OFFERED
from qfund.ui.pickers.choices import WITH_STORED as WITH_STORED
from qfund.ui.pickers.choices import also as also
from qfund.ui.pickers.choices import begin as begin
from qfund.ui.pickers.choices import bound as bound
from qfund.ui.pickers.choices import caches as caches
from qfund.ui.pickers.choices import model as model
from qfund.ui.pickers.choices import named_files as named_files
from qfund.ui.pickers.choices import option_label as option_label
from qfund.ui.pickers.choices import precisions as precisions
from qfund.ui.pickers.choices import quantized_files as quantized_files
from qfund.ui.pickers.choices import reference as reference
from qfund.ui.pickers.choices import revision as revision
from qfund.ui.pickers.counts import amount as amount
from qfund.ui.pickers.counts import amounts as amounts
from qfund.ui.pickers.counts import count as count
from qfund.ui.pickers.counts import counted as counted
from qfund.ui.pickers.counts import several as several
from qfund.ui.pickers.counts import tokens as tokens
from qfund.ui.pickers.counts import typed as typed
from qfund.ui.pickers.counts import wrong as wrong
