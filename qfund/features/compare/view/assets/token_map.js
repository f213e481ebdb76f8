// The text as a heat map of tokens. Everything that comes from a model or a text is set as text content, never as HTML.
//
// Above, every position is a tile of a canvas; below, the text around the chosen one is shown word by word. A text that
// the lower part shows whole has no tiles.

const PAGE = 1024 // tokens of the text in the page at once: more of them would take a browser seconds to lay out
const MANY = 8 // candidates that fit as buttons

const kept = new WeakMap() // parentElement → what is drawn there, so that a rerun or another theme keeps the selection

export default function (component) {
  const { data, parentElement } = component
  const held = kept.get(parentElement)
  const map = read(data)
  if (held && held.map.id === map.id) return held.stop
  held?.stop()
  const state = { map, candidate: 0, by: "kl", own: farApart(map.candidates), token: null, page: -1, stop: () => kept.delete(parentElement) }
  kept.set(parentElement, state)
  draw(parentElement, state)
  return state.stop
}

// See ``payload`` in tokens.py.
function read(data) {
  const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength)
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
  const map = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)))
  const count = map.pieces.length
  map.places = new Map() // position → where its details are
  for (const [first, end] of map.detailed) for (let place = first; place < end; place++) map.places.set(place, map.places.size)
  let at = 4 + length
  for (const candidate of map.candidates) {
    const short = new Uint16Array(bytes.slice(at, at + 2 * count).buffer)
    at += 2 * count
    candidate.every = new Float32Array(Uint32Array.from(short, (bits) => bits << 16).buffer)
  }
  for (const candidate of map.candidates) {
    const bits = bytes.slice(at, at + Math.ceil(count / 8))
    at += bits.length
    candidate.changed = (place) => (bits[place >> 3] & (1 << (place & 7))) !== 0
  }
  map.starting = new Set(map.starts)
  return map
}

function draw(parent, state) {
  const at = (selector) => parent.querySelector(selector)
  const { map } = state
  const text = at(".text")
  const count = map.pieces.length
  let spans = new Map() // index → its element, of the tokens that are in the page

  // The distributions at position i are about token i + 1 where a model predicts the next token.
  const shift = map.next ? 1 : 0
  const position = (index) => index - shift
  const current = () => map.candidates[state.candidate]
  // Of a position where nothing is compared: −1 if nothing is predicted there, NaN if the outputs are not finite.
  const kl = (index) =>
    position(index) < 0 || (map.next && map.starting.has(index)) ? -1 : current().every[position(index)]
  const compared = (index) => kl(index) >= 0
  const broken = (index) => Number.isNaN(kl(index))
  const changed = (index) => compared(index) && current().changed(position(index))

  const buttons = map.candidates.map((candidate, index) => {
    const button = element("button", "", candidate.label)
    button.type = "button"
    button.setAttribute("role", "radio")
    button.style.setProperty("--own", candidate.colour)
    button.onclick = () => choose(index)
    return button
  })
  const few = buttons.length <= MANY
  at(".candidates").hidden = !few
  at(".many").hidden = few
  at(".candidates").replaceChildren(...(few ? buttons : []))
  at(".candidates").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const next = (state.candidate + step + buttons.length) % buttons.length
    buttons[next].click()
    buttons[next].focus()
  }
  at(".many select").replaceChildren(
    ...map.candidates.map((candidate, index) => {
      const option = element("option", "", candidate.label)
      option.value = index
      return option
    }),
  )
  at(".many select").onchange = (event) => choose(Number(event.target.value))
  at(".by select").value = state.by
  at(".by select").onchange = (event) => {
    state.by = event.target.value
    paint()
  }
  at(".own").hidden = map.candidates.length < 2
  at(".own input").checked = state.own
  at(".own input").onchange = (event) => {
    state.own = event.target.checked
    paint()
  }

  function choose(index) {
    state.candidate = index
    paint()
  }

  // One scale for all candidates, so that switching between them compares them, unless one would show nothing on it.
  const scales = new Map()
  function range() {
    const key = state.own ? state.candidate : -1
    if (!scales.has(key)) scales.set(key, scale(state.own ? [current()] : map.candidates))
    return scales.get(key)
  }

  function strength(index, [low, high]) {
    if (state.by === "top") return changed(index) ? 0.55 : 0
    return heat(kl(index), low, high)
  }

  function paint() {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-checked", index === state.candidate)
      button.tabIndex = index === state.candidate ? 0 : -1
    })
    at(".many select").value = state.candidate
    tiles.paint()
    if (state.token === null) state.token = first()
    const page = pageOf(state.token)
    if (page !== state.page) turn(page)
    else colour()
    worst()
    select(state.token, false)
  }

  // ---- the tiles

  const tiles = overview()

  function overview() {
    const shown = count > PAGE
    at(".overview").hidden = !shown
    if (!shown) return { paint() {}, mark() {} }
    const box = at(".tiles")
    const canvas = at("canvas")
    box.setAttribute("aria-label", `${count.toLocaleString("en")} tokens, one tile each, coloured as the text below`)
    let columns = 0
    let rows = 0

    function lay() {
      const wide = Math.max(200, box.clientWidth)
      const next = columnsFor(count, map.starts, wide)
      if (next === columns) return false
      columns = next
      rows = Math.ceil(count / columns)
      canvas.width = columns
      canvas.height = rows
      box.style.aspectRatio = `${columns} / ${rows}`
      return true
    }

    function paintTiles() {
      lay()
      const began = performance.now()
      const picture = new ImageData(columns, rows)
      const pixels = new Uint32Array(picture.data.buffer) // little-endian: alpha, blue, green, red
      const ends = range()
      const [heatInk, brokenInk, blankInk] = inks()
      for (let index = 0; index < count; index++) {
        const value = strength(index, ends)
        if (value > 0) pixels[index] = heatInk | (Math.round(255 * Math.min(1, 0.1 + 1.15 * value)) << 24)
        else if (compared(index)) pixels[index] = blankInk
        else pixels[index] = broken(index) ? brokenInk : 0
      }
      canvas.getContext("2d").putImageData(picture, 0, 0)
      performance.measure("qfund-tiles", { start: began, end: performance.now() })
    }

    // The colours of the theme, as a canvas wants them.
    function inks() {
      const style = getComputedStyle(box)
      const [red, green, blue] = rgb(style.color)
      return [0x005ed5, 0xffa779cc, ((blue << 16) | (green << 8) | red | (14 << 24)) >>> 0]
    }

    const indexAt = (event) => {
      const edge = canvas.getBoundingClientRect()
      const column = Math.floor(((event.clientX - edge.left) / edge.width) * columns)
      const row = Math.floor(((event.clientY - edge.top) / edge.height) * rows)
      const index = row * columns + column
      return column >= 0 && column < columns && index >= 0 && index < count ? index : null
    }
    box.onpointermove = (event) => tell(indexAt(event) ?? state.token)
    box.onpointerleave = () => tell(state.token)
    box.onclick = (event) => {
      const index = indexAt(event)
      if (index !== null) select(index, true)
    }
    box.onkeydown = (event) => {
      const steps = { ArrowRight: 1, ArrowDown: columns, ArrowLeft: -1, ArrowUp: -columns, Home: -Infinity, End: Infinity }
      move(event, steps[event.key])
    }
    const watch = new ResizeObserver(() => {
      if (box.clientWidth && lay()) {
        paintTiles()
        mark()
      }
    })
    watch.observe(box)
    const stop = state.stop
    state.stop = () => {
      watch.disconnect()
      stop()
    }

    function tell(index) {
      if (index === null) return
      const facts = [`token ${(index + 1).toLocaleString("en")}`]
      if (compared(index)) facts.push(`KL ${about(index)} nat`, changed(index) ? "top token changed" : "same top token")
      else facts.push(broken(index) ? "not finite" : "not predicted")
      at(".tip-facts").textContent = facts.join(" · ")
      const [from, to] = [Math.max(0, index - 12), Math.min(count, index + 13)]
      const around = [map.pieces.slice(from, index), map.pieces.slice(index + 1, to)].map((part) => flat(part.join("")))
      at(".tip-text").replaceChildren(around[0], element("b", "", visible(map.pieces[index])), around[1])
    }

    function mark() {
      const [from, to] = [state.page * PAGE, Math.min(count, (state.page + 1) * PAGE)]
      const share = (row) => `${(100 * row) / rows}%`
      const lens = at(".lens").style
      lens.top = share(Math.floor(from / columns))
      lens.height = share(Math.ceil(to / columns) - Math.floor(from / columns))
      const here = at(".here").style
      here.left = `${(100 * ((state.token % columns) + 0.5)) / columns}%`
      here.top = share(Math.floor(state.token / columns) + 0.5)
      tell(state.token)
    }

    return { paint: paintTiles, mark }
  }

  // ---- the text

  const pageOf = (index) => Math.floor(index / PAGE)

  function turn(page) {
    state.page = page
    const [from, to] = [page * PAGE, Math.min(count, (page + 1) * PAGE)]
    spans = new Map()
    const content = document.createDocumentFragment()
    for (let index = from; index < to; index++) {
      if (map.starting.has(index) && (index > 0 || map.starts.length > 1)) content.append(chunkMark(map.starts.indexOf(index)))
      const span = tokenSpan(map.pieces[index], index)
      spans.set(index, span)
      content.append(span)
    }
    text.replaceChildren(content)
    text.scrollTop = 0
    at(".turn").hidden = count <= PAGE
    at(".range").textContent = `tokens ${(from + 1).toLocaleString("en")} to ${to.toLocaleString("en")} of ${map.total.toLocaleString("en")}`
    at(".earlier").disabled = page === 0
    at(".later").disabled = to >= count
    colour()
  }
  at(".earlier").onclick = () => select((state.page - 1) * PAGE, false)
  at(".later").onclick = () => select((state.page + 1) * PAGE, false)

  function colour() {
    const ends = range()
    spans.forEach((span, index) => {
      span.style.setProperty("--strength", strength(index, ends).toFixed(3))
      span.classList.toggle("changed", changed(index))
      span.classList.toggle("blank", kl(index) < 0)
      span.classList.toggle("broken", broken(index))
    })
    legend(ends)
  }

  function legend([low, high]) {
    const onlyChanged = state.by === "top"
    const stops = [0, 0.25, 0.5, 0.75, 1].map((t) => `color-mix(in srgb, var(--heat) ${100 * curve(t)}%, transparent)`)
    at(".ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`
    for (const part of [".low", ".ramp", ".high"]) at(part).hidden = onlyChanged || !(high > 0)
    at(".low").textContent = short(low, 2)
    at(".high").textContent = `${short(high, 2)} nat`
    at(".changed-key").hidden = !any(changed)
    at(".broken-key").hidden = !any(broken)
  }

  function any(condition) {
    for (let index = 0; index < count; index++) if (condition(index)) return true
    return false
  }

  // The indices of the largest disagreements, the largest first.
  function largest(many) {
    const found = []
    for (let index = shift; index < count; index++) {
      const value = kl(index)
      if (!(value > 0) || (found.length === many && value <= found[many - 1][0])) continue
      const place = found.findIndex(([other]) => other < value)
      found.splice(place < 0 ? found.length : place, 0, [value, index])
      if (found.length > many) found.pop()
    }
    return found.map(([, index]) => index)
  }

  // What is selected at first: the largest disagreement, of a short text the largest of those that are in view.
  function first() {
    if (count > PAGE) return largest(1)[0] ?? 0
    turn(0)
    const inView = largest(count).filter((index) => spans.get(index).offsetTop - text.offsetTop < text.clientHeight - 20)
    return inView[0] ?? Math.min(shift, count - 1)
  }

  function worst() {
    const rows = largest(10).map((index) => {
      const button = element("button")
      button.type = "button"
      button.append(element("bdi", "", visible(map.pieces[index])), element("i", "", about(index)))
      button.onclick = () => select(index, true)
      return button
    })
    at(".worst-list").replaceChildren(...(rows.length ? rows : [element("span", "note", nowhere())]))
  }

  function nowhere() {
    if (!any(compared)) return "Nothing here is finite, so nothing can be compared."
    return `Nowhere: the outputs are equal${any(broken) ? " wherever both are finite" : ""}.`
  }

  // The divergence with the digits that are kept of it: three of the detailed positions, two of the others.
  function about(index) {
    const place = map.places.get(position(index))
    return place === undefined ? short(kl(index), 2) : short(current().kl[place], 3)
  }

  function select(index, scroll) {
    const old = spans.get(state.token)
    old?.classList.remove("on")
    old?.setAttribute("aria-selected", "false")
    state.token = index
    if (pageOf(index) !== state.page) turn(pageOf(index))
    const span = spans.get(index)
    if (!span) return
    span.classList.add("on")
    span.setAttribute("aria-selected", "true")
    text.setAttribute("aria-activedescendant", span.id)
    if (scroll) text.scrollTo({ top: span.offsetTop - text.offsetTop - text.clientHeight / 2, behavior: calm() })
    tiles.mark()
    inform(index)
  }

  function inform(index) {
    at(".where").replaceChildren(
      element("bdi", "word", visible(map.pieces[index])),
      element("span", "place", `token ${(index + 1).toLocaleString("en")} of ${map.total.toLocaleString("en")}`),
    )
    if (kl(index) < 0) {
      const why = position(index) < 0 || map.starting.has(index) ? "Nothing comes before it in its chunk: it is" : "It is"
      at(".facts").replaceChildren(element("span", "note", `${why} not predicted.`))
      at(".sides").replaceChildren()
      return
    }
    const candidate = current()
    const finite = compared(index)
    const place = map.places.get(position(index))
    const facts = finite
      ? [fact("KL", `${about(index)} nat`), fact("top token", changed(index) ? "changed" : "same")]
      : [element("span", "note", "The outputs here are not finite: left out of every number.")]
    if (finite && place !== undefined && candidate.diff[place] != null)
      facts.splice(1, 0, fact("mean |difference|", `${short(candidate.diff[place], 3)} logit`))
    at(".facts").replaceChildren(...facts)
    const real = map.pieces[index]
    const sides = []
    if (place === undefined)
      sides.push(element("p", "note", "What each expected is kept of the first tokens and of the largest disagreements."))
    else {
      if (map.reference.t[place].length) sides.push(side(`${map.reference.label} (reference) expects`, map.reference, place, real))
      if (finite && candidate.t[place].length) sides.push(side(`${candidate.label} expects`, candidate, place, real))
    }
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
    move(event, steps[event.key])
  }
  function move(event, step) {
    if (step === undefined) return
    event.preventDefault()
    select(Math.max(0, Math.min(count - 1, (state.token ?? 0) + step)), true)
  }
  paint()
}

// How many tiles stand beside each other. Where all chunks are equally long, each begins at the left edge, or several
// stand side by side; tiles are about square, and the picture is no higher than a third of its width or 380 pixels.
function columnsFor(count, starts, wide) {
  const high = Math.min(380, Math.max(180, wide / 3))
  const most = Math.max(40, Math.floor(wide / 3)) // three pixels can be seen, and nearly hit
  const wanted = Math.min(most, Math.max(40, Math.round(Math.sqrt((count * wide) / high))))
  const length = starts.length > 1 ? starts[1] - starts[0] : 0
  const equal = length > 0 && starts.every((start, index) => start === index * length)
  if (!equal) return wanted
  const sizes = []
  for (let share = 1; length / share >= 32; share++) if (length % share === 0) sizes.push(length / share)
  for (let times = 2; times * length <= 1.5 * most; times++) sizes.push(times * length)
  const near = (columns) => Math.abs(Math.log(columns / wanted))
  return sizes.reduce((best, columns) => (near(columns) < near(best) ? columns : best), sizes[0] ?? wanted)
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

// The ends of a logarithmic scale: the largest value and at most three decades below it. The lower end is taken from a
// sample: it need not be exact.
function scale(candidates) {
  let high = 0
  const sample = []
  const step = Math.max(1, Math.floor(candidates.reduce((sum, candidate) => sum + candidate.every.length, 0) / 20000))
  for (const { every } of candidates) {
    for (let place = 0; place < every.length; place++) {
      if (every[place] > high) high = every[place]
      if (place % step === 0 && every[place] > 0) sample.push(every[place])
    }
  }
  if (!(high > 0)) return [0, 0]
  sample.sort((a, b) => a - b)
  return [Math.max(sample[Math.floor(0.02 * sample.length)] ?? 0, high * 1e-3), high]
}

// Whether some candidate would be blank on one scale for all: its largest value is little beside that of another.
function farApart(candidates) {
  const largest = candidates.map((candidate) => scale([candidate])[1]).filter((high) => high > 0)
  return largest.length > 1 && Math.min(...largest) < 0.05 * Math.max(...largest)
}

function heat(value, low, high) {
  if (!(value > 0) || !(high > 0)) return 0
  if (high === low) return curve(1)
  return curve(Math.max(0, Math.min(1, Math.log(value / low) / Math.log(high / low))))
}

function curve(share) {
  return 0.78 * share ** 2.6
}

function rgb(colour) {
  return (colour.match(/[\d.]+/g) ?? [128, 128, 128]).slice(0, 3).map((part) => Math.round(Number(part)))
}

function visible(piece) {
  const shown = piece.replaceAll("\n", "↵").replaceAll("\t", "→")
  return shown.trim() ? shown.replace(/^ +/, (spaces) => "·".repeat(spaces.length)) : "·".repeat(shown.length) || "∅"
}

function flat(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", " ")
}

function short(value, digits) {
  if (!(value > 0)) return "0"
  if (value >= 0.001 && value < 1000) return String(Number(value.toPrecision(digits)))
  return value.toExponential(1)
}

function percent(share) {
  if (share >= 0.0995) return (100 * share).toFixed(1)
  return share >= 0.0001 ? (100 * share).toPrecision(2) : "<0.01"
}

function calm() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"
}
