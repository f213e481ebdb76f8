// The text as a heat map of tokens. Everything that comes from a model or a text is set as text content, never as HTML.

const kept = new WeakMap() // parentElement → what is drawn there, so that a rerun or another theme keeps the selection

export default function (component) {
  const { data, parentElement } = component
  const held = kept.get(parentElement)
  const map = JSON.parse(new TextDecoder().decode(data))
  if (held && held.map.id === map.id) return held.stop
  const state = { map, candidate: 0, by: "kl", own: false, token: null, stop: () => kept.delete(parentElement) }
  kept.set(parentElement, state)
  draw(parentElement, state)
  return state.stop
}

function draw(parent, state) {
  const at = (selector) => parent.querySelector(selector)
  const { map } = state
  const text = at(".text")
  const spans = map.pieces.map((piece, index) => tokenSpan(piece, index))
  const starts = new Set(map.starts)
  const content = document.createDocumentFragment()
  spans.forEach((span, index) => {
    if (starts.has(index) && (index > 0 || map.starts.length > 1)) content.append(chunkMark(map.starts.indexOf(index)))
    content.append(span)
  })
  text.replaceChildren(content)

  // The distributions at position i are about token i + 1 where a model predicts the next token.
  const shift = map.next ? 1 : 0
  const position = (index) => index - shift
  const current = () => map.candidates[state.candidate]
  const values = () => (state.by === "diff" ? current().diff : current().kl)
  // The first token of a chunk is not predicted; where the reference is not finite there is nothing to compare with.
  const predicted = (index) =>
    position(index) >= 0 && !(map.next && starts.has(index)) && (map.broken || map.reference.t[position(index)].length > 0)
  const broken = (index) => predicted(index) && current().kl[position(index)] == null

  const buttons = map.candidates.map((candidate, index) => {
    const button = element("button", "", candidate.label)
    button.type = "button"
    button.setAttribute("role", "radio")
    button.style.setProperty("--own", candidate.colour)
    button.onclick = () => {
      state.candidate = index
      paint()
    }
    return button
  })
  at(".candidates").replaceChildren(...buttons)
  at(".candidates").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const next = (state.candidate + step + buttons.length) % buttons.length
    buttons[next].click()
    buttons[next].focus()
  }
  at("select").value = state.by
  at("select").onchange = (event) => {
    state.by = event.target.value
    paint()
  }

  at(".own").hidden = map.candidates.length < 2
  at(".own input").checked = state.own
  at(".own input").onchange = (event) => {
    state.own = event.target.checked
    paint()
  }

  function paint() {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-checked", index === state.candidate)
      button.tabIndex = index === state.candidate ? 0 : -1
    })
    const onlyChanged = state.by === "top"
    // One scale for all candidates unless asked otherwise, so that switching between them compares them.
    const [low, high] = scale(state.own ? [current()] : map.candidates, state.by === "diff" ? "diff" : "kl")
    spans.forEach((span, index) => {
      const place = position(index)
      const value = place < 0 ? undefined : values()[place]
      const changed = value != null && current().same[place] === false
      const strength = value == null ? 0 : onlyChanged ? (changed ? 0.55 : 0) : heat(value, low, high)
      span.style.setProperty("--strength", strength.toFixed(3))
      span.classList.toggle("changed", changed)
      span.classList.toggle("blank", !predicted(index))
      span.classList.toggle("broken", broken(index))
    })
    legend(low, high, onlyChanged)
    worst()
    if (state.token === null) state.token = first()
    select(state.token, false)
  }

  function legend(low, high, onlyChanged) {
    const stops = [0, 0.25, 0.5, 0.75, 1].map((t) => `color-mix(in srgb, var(--heat) ${100 * curve(t)}%, transparent)`)
    at(".ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`
    for (const part of [".low", ".ramp", ".high"]) at(part).hidden = onlyChanged || !(high > 0)
    at(".low").textContent = short(low)
    at(".high").textContent = `${short(high)}${state.by === "kl" ? " nat" : " logit"}`
    at(".changed-key").hidden = !current().same.some((same, place) => same === false && current().kl[place] != null)
    at(".broken-key").hidden = !spans.some((_, index) => broken(index))
  }

  function ranked() {
    const found = values()
    return spans
      .map((_, index) => index)
      .filter((index) => position(index) >= 0 && found[position(index)] > 0)
      .sort((a, b) => found[position(b)] - found[position(a)])
  }

  // What is selected at first: the largest disagreement of those that are in view.
  function first() {
    const inView = ranked().filter((index) => spans[index].offsetTop - text.offsetTop < text.clientHeight - 20)
    return inView[0] ?? Math.min(shift, spans.length - 1)
  }

  function worst() {
    const found = values()
    const rows = ranked().slice(0, 10).map((index) => {
      const button = element("button")
      button.type = "button"
      button.append(element("bdi", "", visible(map.pieces[index])), element("i", "", short(found[position(index)])))
      button.onclick = () => select(index, true)
      return button
    })
    at(".worst-list").replaceChildren(...(rows.length ? rows : [element("span", "note", nowhere())]))
  }

  function nowhere() {
    if (!current().kl.some((value) => value != null)) return "Nothing here is finite, so nothing can be compared."
    const where = spans.some((_, index) => broken(index)) ? " wherever both are finite" : ""
    return `Nowhere: the outputs are equal${where}.`
  }

  function select(index, scroll) {
    spans[state.token]?.classList.remove("on")
    spans[state.token]?.setAttribute("aria-selected", "false")
    state.token = index
    const span = spans[index]
    if (!span) return
    span.classList.add("on")
    span.setAttribute("aria-selected", "true")
    text.setAttribute("aria-activedescendant", span.id)
    if (scroll) text.scrollTo({ top: span.offsetTop - text.offsetTop - text.clientHeight / 2, behavior: calm() })
    inform(index)
  }

  function inform(index) {
    const place = position(index)
    at(".where").replaceChildren(
      element("bdi", "word", visible(map.pieces[index])),
      element("span", "place", `token ${(index + 1).toLocaleString("en")} of ${map.total.toLocaleString("en")}`),
    )
    if (!predicted(index)) {
      at(".facts").replaceChildren(element("span", "note", "Nothing comes before it in its chunk: it is not predicted."))
      at(".sides").replaceChildren()
      return
    }
    const candidate = current()
    const finite = candidate.kl[place] != null
    const facts = finite
      ? [
          fact("KL", `${short(candidate.kl[place])} nat`),
          fact("mean |difference|", `${short(candidate.diff[place])} logit`),
          fact("top token", candidate.same[place] ? "same" : "changed"),
        ]
      : [element("span", "note", "The outputs here are not finite: left out of every number.")]
    at(".facts").replaceChildren(...facts)
    const real = map.pieces[index]
    const sides = []
    if (map.reference.t[place].length) sides.push(side(`${map.reference.label} (reference) expects`, map.reference, place, real))
    if (finite) sides.push(side(`${candidate.label} expects`, candidate, place, real))
    at(".sides").replaceChildren(...sides)
  }

  function side(title, owner, place, real) {
    const box = element("div", "side")
    box.append(element("div", "side-title", title))
    owner.t[place].forEach((token, rank) => {
      const row = element("div", "row")
      const piece = map.vocabulary[token]
      const share = owner.p[place][rank]
      row.classList.toggle("real", piece === real)
      if (piece === real) row.title = "what the text says"
      const track = element("div", "track")
      const fill = element("div", "fill")
      fill.style.width = `${100 * share}%`
      fill.style.background = owner.colour
      track.append(fill)
      row.append(element("bdi", "name", visible(piece)), track, element("span", "share", `${percent(share)} %`))
      box.append(row)
    })
    return box
  }

  const indexOf = (target) => {
    const span = target.closest?.(".t")
    return span ? Number(span.dataset.index) : null
  }
  text.onclick = (event) => {
    const index = indexOf(event.target)
    if (index !== null) select(index, false)
  }
  text.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 10, ArrowLeft: -1, ArrowUp: -10, Home: -Infinity, End: Infinity }
    const step = steps[event.key]
    if (step === undefined) return
    event.preventDefault()
    select(Math.max(0, Math.min(spans.length - 1, (state.token ?? 0) + step)), true)
  }
  paint()
}

function tokenSpan(piece, index) {
  const span = element("span", "t")
  span.dataset.index = index
  span.id = `token-${index}`
  span.setAttribute("role", "option")
  // A line break stays a line break, with a quiet sign in front of it, so that its colour can be seen.
  for (const part of piece.split(/(\n|\uFFFD+)/)) {
    if (part.startsWith("\uFFFD")) span.append(element("span", "mark", part)) // a part of a character
    else if (part === "\n") span.append(element("span", "mark", "↵"), document.createTextNode("\n"))
    else if (part && !part.trim()) span.append(element("span", "mark", part.replaceAll(" ", "·").replaceAll("\t", "→")))
    else if (part) span.append(document.createTextNode(part))
  }
  return span
}

function chunkMark(number) {
  const mark = element("span", "chunk", `${number + 1}`)
  mark.title = `chunk ${number + 1} starts here`
  mark.setAttribute("aria-hidden", "true")
  return mark
}

function element(name, className, text) {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

function fact(name, value) {
  const made = element("span", "", `${name} `)
  made.append(element("b", "", value))
  return made
}

// The ends of a logarithmic scale: the largest value and at most three decades below it.
function scale(candidates, field) {
  const found = candidates.flatMap((candidate) => candidate[field].filter((value) => value > 0)).sort((a, b) => a - b)
  if (!found.length) return [0, 0]
  const high = found[found.length - 1]
  return [Math.max(found[Math.floor(0.02 * found.length)], high * 1e-3), high]
}

function heat(value, low, high) {
  if (!(value > 0) || !(high > 0)) return 0
  if (high === low) return curve(1)
  return curve(Math.max(0, Math.min(1, Math.log(value / low) / Math.log(high / low))))
}

function curve(share) {
  return 0.78 * share ** 2.6
}

function visible(piece) {
  const shown = piece.replaceAll("\n", "↵").replaceAll("\t", "→")
  return shown.trim() ? shown.replace(/^ +/, (spaces) => "·".repeat(spaces.length)) : "·".repeat(shown.length) || "∅"
}

function short(value) {
  if (!(value > 0)) return "0"
  if (value >= 0.001 && value < 1000) return String(Number(value.toPrecision(3)))
  return value.toExponential(1)
}

function percent(share) {
  if (share >= 0.0995) return (100 * share).toFixed(1)
  return share >= 0.0001 ? (100 * share).toPrecision(2) : "<0.01"
}

function calm() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"
}
