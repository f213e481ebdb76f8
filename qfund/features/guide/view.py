"""The guide: what kinds of precision there are, what each metric means, and how to read the numbers."""

import streamlit as st

from qfund.core.metrics.table import METRICS
from qfund.drawing.phrases import BETTER
from qfund.precisions.precision import FAMILIES, FILE, STORED
from qfund.precisions.table import PRECISIONS
from qfund.ui import shell
from qfund.ui.states import literal

_READING = """
- **Memory** is the *footprint*: the bytes of all stored weights, scales and buffers, counted in the loaded model,
  tied weights once. Beside it stands what shapes and dtypes alone predict.
- **Bits per quantised weight** are those of the converted weights alone, scales and zero-points included: 4-bit
  integers in groups of 32 take 5 bits, or 4.5 on BF16. **Bits per parameter** are those of the whole model, with all
  that stayed wider.
- **Top-1 agreement** says how often the most likely token stays the same. It moves even where little changes, because
  two tokens may have been nearly equally likely.
- **KL divergence** sees the whole distribution, so it finds damage that perplexity misses. It is 0 for equal
  distributions and has no upper bound.
- **Perplexity × 1.02** means that the candidate finds the text a little more surprising. Below 1 does not mean better:
  noise helps on some texts. qfund calls it a change only where 1 lies outside its 95 % interval, made wider where there
  are several candidates, so that of twenty comparisons in which nothing changes, about one at most is said to hold a
  change, however many candidates it has (Bonferroni's adjustment). Of texts of too few chunks for an interval nothing
  is said.
- **A 95 % interval** stands in parentheses; a number without one is of too short a text. It respects that tokens of
  one text depend on one another, also from one chunk to the next: it comes from how much about 10 blocks of
  neighbouring chunks (of many texts: the texts) differ, not from how many tokens there are, and is corrected for their
  small number and for skewness. It takes 8 chunks. What goes on for longer than a short text's blocks is assumed, as
  much as the shipped model's text shows. In simulations of dependent, skewed values it covers the truth in 93 to 99 of
  100 cases, and in more where chunks do not depend on one another, or shares are so near to 0 or 1 that few positions
  differ. It speaks of text like this one.
- **Several texts** count the same, however long each is: every mean is the mean over texts. Maxima and percentiles are
  those of all positions.
- **Single swaps** (page *Layers*) put one module in a precision and leave all else in the reference. Where everything
  at once costs about the sum of them, damages add up and a **recipe** may be chosen by adding; else the page says so.
  It is recommended only where the whole interval of its difference from the best uniform precision of no more bytes
  lies on the better side, on text that the search did not see.
- **Noise floor** is how much the reference differs from itself when it is run another way (threads, batches,
  attention). A difference below it means nothing.
- **Within your margin** is said only where the whole interval is, **outside** only where none of it is. Otherwise the
  comparison is **inconclusive**, and what more tokens would decide is worked out from errors that shrink with √n.
- **Until decided** reads on only for candidates whose verdict is open. One is left open where all of the text
  would hardly decide either: with less than one chance in ten. Looking again and again finds by chance what one look
  would not, so such intervals are wider: they hold at all looks together, and of twenty comparisons about one at most
  is decided wrongly. Candidates have then read differently far; two are compared on what both have read.
- **Positions that are not finite** (NaN or infinity, mostly FP16 overflow) are counted, shown and left out of every
  average.
- **Emulated** means that hardware made for the format would also multiply in it. The damage shown here comes from
  rounding the weights (and activations where it says so); nothing is said about that hardware's speed.
- **Sizes** have four names that are never mixed: what is *stored on disk*, the *footprint* predicted from shapes and
  counted in the loaded model (equal to the byte), what loading *needs* at its peak, and what inference adds. Resident
  memory (RSS) is none of them: it counts pages of the checkpoint's file that the system takes back when it must.
- **Need** is the most private memory plus the live weights that still alias the mapped file. It says why loading
  straight in BF16 takes half of what loading in FP32 and casting takes.
- **A quantised file** beside its original shows what its own weights cost, decoded and run in FP32. What the program
  that runs it rounds besides (llama.cpp: the inputs of quantised products) comes on top and is not in the figures.
  `qfund audit` lists what is in the file, tensor by tensor.
- **Times** are ratios to the reference's, measured in turns on one machine: of one forward where libraries were asked
  for, of reading and writing on the page Speed. There **% of bandwidth** is how much of what memory gives here writing
  used (it reads every weight once a token), and **% of peak** how much of a matrix product's speed reading used.
- **A rounded KV cache** changes no weight: every position reads keys and values as the cache would decode them. Beside
  precisions it is another row, *INT4, KV q8_0*, and memory is then that of weights and of one sequence's cache.
"""

_MEANINGS = """
People call several things BF16, and on the shipped model their KL divergences are more than tenfold apart. A plain
**BF16** here is the whole model in it, as `from_pretrained(dtype=torch.bfloat16)` has it: weights, all that flows
between layers, and the logits. (`.to(torch.bfloat16)` after loading rounds buffers too, such as the table of rotary
positions, and gives other logits: question 2 of the nine.) The set *Meanings of BF16* of the page Compare puts the
others beside it, to see where the loss comes from:

- **BF16 weights**: only the stored weights are rounded; all arithmetic stays in FP32.
- **BF16 weights and inputs**: linear layers round what they are given too and sum in FP32. This is llama.cpp's BF16.
- **BF16 autocast**: `torch.autocast`: FP32 weights, rounded as they are multiplied; norms and softmax stay in FP32.
- **BF16 with FP32 head**: the whole model in BF16, but its output head multiplies in FP32: logits are not rounded.

In the first two, norms and biases (whatever has one dimension) keep FP32, as in llama.cpp. All exist for FP16 too.
"""


@st.cache_resource(show_spinner=False)
def draw() -> None:
    """The whole view, which is the same for everybody."""
    st.markdown(
        "qfund runs one model in several precisions on the same input and compares every output with the reference's. "
        "Nothing is estimated where it can be counted, and nothing is filled in where it could not be measured."
    )
    st.header("How to read the numbers", anchor=False)
    st.markdown(_READING)
    st.header("Precisions", anchor=False)
    st.markdown(
        "A precision is a way to hold a model's weights. Every quantised one also exists with the rest in BF16."
    )
    _families()
    st.subheader("What “bf16” means here", anchor=False)
    st.markdown(_MEANINGS)
    st.page_link(shell.page("precisions"), label="All precisions, side by side", icon=":material/stacked_line_chart:")
    st.header("Metrics", anchor=False)
    _metrics()


def _families() -> None:
    """The families of precisions, one line each, with the names of their rows."""
    for family, meaning in FAMILIES.items():
        rows = [row.label for row in PRECISIONS.values() if row.family == family and row.variant_of is None]
        if family not in (STORED, FILE):
            st.markdown(f"**{family.capitalize()}** · {literal(meaning)}  \n:small[:gray[{literal(', '.join(rows))}]]")


def _metrics() -> None:
    """A card each."""
    with st.grid(3, min_column_width=300):
        for row in METRICS.values():
            with st.container(border=True, height="stretch", gap="small"):
                st.markdown(f"**{literal(row.label)}**")
                st.markdown(literal(row.definition))
                unit = f"in {row.unit}" if row.unit not in ("", "×", "share") else {"share": "in %"}.get(row.unit, "")
                facts = [f"{BETTER[row.better]} is better", unit, f"`{row.name}`", f"after {literal(row.source)}"]
                st.caption(" · ".join(fact for fact in facts if fact))
