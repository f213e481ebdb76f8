// Four heat maps of one matrix, its histogram with the representable values, and the sliders for scale and zero-point.
// The numbers are Python's; here only (q − z) · s is rounded to float32 once more, so that they need not travel.

const kept = new WeakMap() // parentElement → what is held between reruns
const PATIENCE = 1500 // ms; an answer that did not come by then is not waited for
const MOST_CELLS = 12 // rows and columns up to which every number is written

export default function (component) {
  const { data, parentElement: parent, setStateValue } = component
  let state = kept.get(parent)
  if (!state) {
    state = { serial: 0, waiting: 0, pending: null, hover: null, stop: () => kept.delete(parent) }
    kept.set(parent, state)
  }
  state.send = setStateValue
  state.view = unpack(data)
  state.waiting = 0
  draw(parent, state)
  if (state.pending) flush(state)
  return state.stop
}

// u32 length of the header · header as JSON, padded to four bytes · weights f32 · scales f32 · zero-points i32 · codes i8
function unpack(bytes) {
  const buffer = bytes.slice().buffer
  const length = new DataView(buffer).getUint32(0, true)
  const view = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)))
  const count = view.rows * view.columns
  let at = 4 + length
  const next = (Type, size) => {
    const found = new Type(buffer, at, size)
    at += found.byteLength
    return found
  }
  view.weights = next(Float32Array, count)
  view.scales = next(Float32Array, view.parts)
  view.zeros = next(Int32Array, view.parts)
  view.codes = next(Int8Array, count)
  view.values = new Float32Array(count)
  view.errors = new Float64Array(count)
  const perRow = view.parts / view.rows
  for (let row = 0, index = 0; row < view.rows; row++) {
    for (let column = 0; column < view.columns; column++, index++) {
      const part = view.parts === 1 ? 0 : row * perRow + Math.floor((column * view.every) / view.size)
      view.values[index] = (view.codes[index] - view.zeros[part]) * view.scales[part]
      view.errors[index] = view.values[index] - view.weights[index]
    }
  }
  return view
}

function draw(parent, state) {
  const { view } = state
  const at = (selector) => parent.querySelector(selector)
  const style = getComputedStyle(at(".quantiser"))
  const shades = {
    low: rgb(view.colours.low),
    high: rgb(view.colours.high),
    middle: rgb(style.getPropertyValue("--st-background-color").trim() || "#ffffff"),
  }
  sliders(at, state)
  maps(at, state, shades)
  state.painted = `${view.id} ${shades.middle}`
  histogram(at, state)
  worked(at, view)
  select(at, state)
  at(".quantiser").dataset.drawn = view.serial
  state.serial = Math.max(state.serial, view.serial)
}

// One move at a time: the next is sent when the answer to the last is drawn, so that no run is interrupted by the next.
function move(state, change, done) {
  state.pending = { ...(state.pending ?? {}), ...change, done }
  if (!state.waiting || Date.now() - state.waiting > PATIENCE) flush(state)
}

function flush(state) {
  const { view, pending } = state
  state.pending = null
  state.waiting = Date.now()
  state.serial += 1
  state.send("move", { id: view.id, scale: view.scale, zero: view.zero, cell: view.cell, ...pending, serial: state.serial })
}

function sliders(at, state) {
  const { view } = state
  at(".sliders").hidden = view.scale == null
  if (view.scale == null) return
  const reach = 8 // a slider goes from an eighth of the chosen scale to eight times
  const busy = (input) => input === input.getRootNode().activeElement
  const [range, exact] = at(".scale").querySelectorAll("input")
  const place = 500 + (500 * Math.log(view.scale / view.chosen.scale)) / Math.log(reach)
  if (!busy(range)) range.value = Math.min(1000, Math.max(0, Math.round(place)))
  if (!busy(exact)) exact.value = short(view.scale, 6)
  const scaleAt = (value) => Number((view.chosen.scale * reach ** ((value - 500) / 500)).toPrecision(4))
  range.oninput = () => {
    exact.value = scaleAt(range.value)
    move(state, { scale: scaleAt(range.value) }, false)
  }
  range.onchange = () => move(state, { scale: scaleAt(range.value) }, true)
  exact.onchange = () => move(state, { scale: exact.value === "" ? null : Number(exact.value) }, true)

  at(".zero").hidden = view.symmetric
  const [zeroRange, zeroExact] = at(".zero").querySelectorAll("input")
  for (const input of [zeroRange, zeroExact]) Object.assign(input, { min: view.qMin, max: view.qMax })
  if (!busy(zeroRange)) zeroRange.value = view.zero
  if (!busy(zeroExact)) zeroExact.value = view.zero
  zeroRange.oninput = () => {
    zeroExact.value = zeroRange.value
    move(state, { zero: Number(zeroRange.value) }, false)
  }
  zeroRange.onchange = () => move(state, { zero: Number(zeroRange.value) }, true)
  zeroExact.onchange = () => move(state, { zero: zeroExact.value === "" ? null : Number(zeroExact.value) }, true)
  at(".reset").disabled = !view.own
  at(".reset").onclick = () => {
    for (const input of [range, exact, zeroRange, zeroExact]) input.blur()
    move(state, { scale: null, zero: null }, true)
  }
}

function maps(at, state, shades) {
  const { view } = state
  const weight = view.reach
  const error = Math.max(...ends(view.errors).map(Math.abs))
  const zero = view.zeros[0]
  // The same colour as its value has, where one scale is everybody's.
  const span = Math.max(1, Math.min(Math.max(view.qMax - zero, zero - view.qMin), Math.round(weight / (view.scale ?? 1))))
  const shift = view.parts === 1 ? zero : 0
  const skipped = view.everyRow * view.every
  const seen = skipped > 1 ? `the weights w: 1 in ${skipped} is drawn, all are counted` : "the weights w"
  const all = [
    { title: "Original", says: seen, values: view.weights, centre: 0, reach: weight, write: (v) => short(v, 4) },
    {
      title: "Integers",
      says: view.parts === 1 && zero ? minus(`the codes q; ${zero} stands for 0`) : "the codes q that are stored",
      values: view.codes,
      centre: shift,
      reach: view.parts === 1 ? span : -view.qMin,
      write: (v) => String(v),
    },
    { title: "Dequantised", says: "ŵ = (q − z) · s, what a model multiplies by", values: view.values, centre: 0, reach: weight, write: (v) => short(v, 4) },
    { title: "Error", says: "ŵ − w, on a scale of its own", values: view.errors, centre: 0, reach: error || 1, write: (v) => short(v, 3) },
  ]
  const small = view.rows <= MOST_CELLS && view.columns <= MOST_CELLS
  const shape = `${view.rows} ${view.columns} ${small}`
  if (state.shape !== shape) {
    state.shape = shape
    state.painted = null
    at(".maps").replaceChildren(...all.map((map) => frame(map, view, small, at, state)))
  }
  ;[...at(".maps").children].forEach((box, index) => {
    const map = all[index]
    box.querySelector(".says").textContent = map.says
    const colour = (value) => mix(shades, Math.max(-1, Math.min(1, (value - map.centre) / map.reach)))
    if (small) {
      const longest = Math.max(...Array.from(map.values, (value) => map.write(value).length))
      box.style.setProperty("--size", `${(18 / view.columns / longest).toFixed(2)}rem`)
      ;[...box.querySelectorAll(".cells button")].forEach((cell, place) => {
        const [red, green, blue] = colour(map.values[place])
        cell.textContent = minus(map.write(map.values[place]))
        cell.setAttribute("aria-label", `${cell.textContent}: ${cell.dataset.says}`)
        cell.style.setProperty("--fill", `rgb(${red} ${green} ${blue})`)
        cell.style.setProperty("--ink", luminance(red, green, blue) > 0.179 ? "#000" : "#fff")
      })
    } else if (index || state.painted !== `${view.id} ${shades.middle}`) {
      const context = box.querySelector("canvas").getContext("2d")
      const image = context.createImageData(view.columns, view.rows)
      const table = new Uint32Array(513)
      const bytes = new Uint8Array(table.buffer)
      for (let step = 0; step < 513; step++) bytes.set([...mix(shades, step / 256 - 1), 255], 4 * step)
      const pixels = new Uint32Array(image.data.buffer)
      const factor = 256 / map.reach
      for (let place = 0; place < pixels.length; place++) {
        const step = Math.round((map.values[place] - map.centre) * factor) + 256
        pixels[place] = table[step < 0 ? 0 : step > 512 ? 512 : step]
      }
      context.putImageData(image, 0, 0)
    }
    const stops = [-1, 0, 1].map((t) => `rgb(${mix(shades, t).join(" ")})`)
    const legend = box.querySelector(".legend")
    legend.children[1].style.background = `linear-gradient(to right, ${stops.join(", ")})`
    legend.children[0].textContent = minus(map.write(map.centre - map.reach))
    legend.children[2].textContent = minus(map.write(map.centre + map.reach))
  })
}

function frame(map, view, small, at, state) {
  const box = element("div", "map")
  box.append(element("div", "title", map.title), element("div", "says"))
  const choose = (row, column) => {
    state.hover = null
    state.view.cell = [row * state.view.everyRow, column * state.view.every]
    select(at, state)
    move(state, { cell: state.view.cell }, true)
  }
  const point = (row, column) => {
    state.hover = row == null ? null : [row, column]
    select(at, state)
  }
  if (small) {
    const cells = element("div", "cells")
    cells.style.gridTemplateColumns = `repeat(${view.columns}, minmax(0, 1fr))`
    for (let place = 0; place < view.rows * view.columns; place++) {
      const [row, column] = [Math.floor(place / view.columns), place % view.columns]
      const cell = element("button")
      cell.type = "button"
      cell.dataset.says = `${map.title}, row ${row + 1}, column ${column + 1}`
      cell.onclick = () => choose(row, column)
      cell.onpointerenter = () => point(row, column)
      cells.append(cell)
    }
    cells.onpointerleave = () => point(null)
    box.append(cells)
  } else {
    const field = element("div", "field")
    const canvas = element("canvas")
    Object.assign(canvas, { width: view.columns, height: view.rows })
    // Long rows stay readable: a picture is at most twice as wide as high, and the other way round.
    canvas.style.aspectRatio = String(Math.min(2, Math.max(0.5, view.columns / view.rows)))
    field.tabIndex = 0
    field.setAttribute("role", "img")
    field.setAttribute("aria-label", `Heat map: ${map.title}. Arrow keys move the chosen weight.`)
    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect()
      const row = Math.floor(((event.clientY - box.top) / box.height) * view.rows)
      const column = Math.floor(((event.clientX - box.left) / box.width) * view.columns)
      return [Math.min(view.rows - 1, Math.max(0, row)), Math.min(view.columns - 1, Math.max(0, column))]
    }
    field.onpointermove = (event) => point(...cellAt(event))
    field.onpointerleave = () => point(null)
    field.onclick = (event) => choose(...cellAt(event))
    field.onkeydown = (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key]
      if (!step) return
      event.preventDefault()
      const [row, column] = shown(state.view)
      choose(Math.min(view.rows - 1, Math.max(0, row + step[0])), Math.min(view.columns - 1, Math.max(0, column + step[1])))
    }
    field.append(canvas, element("div", "ring"))
    box.append(field)
  }
  const legend = element("div", "legend")
  legend.append(element("span"), element("span", "ramp"), element("span"))
  box.append(legend)
  return box
}

// The chosen weight's place in the picture, which shows every n-th row and column of a large matrix.
const shown = (view) => [Math.floor(view.cell[0] / view.everyRow), Math.floor(view.cell[1] / view.every)]

function select(at, state) {
  const { view } = state
  const [row, column] = state.hover ?? shown(view)
  const place = row * view.columns + column
  for (const box of at(".maps").children) {
    box.querySelectorAll(".cells button").forEach((cell, index) => cell.classList.toggle("on", index === place))
    const ring = box.querySelector(".ring")
    if (ring) {
      const canvas = box.querySelector("canvas")
      const [width, height] = [canvas.clientWidth / view.columns, canvas.clientHeight / view.rows]
      const [wide, high] = [Math.max(11, width + 4), Math.max(11, height + 4)]
      ring.style.width = `${wide}px`
      ring.style.height = `${high}px`
      ring.style.left = `${(column + 0.5) * width - wide / 2 + 1}px`
      ring.style.top = `${(row + 0.5) * height - high / 2 + 1}px`
    }
  }
  const where = [view.first[0] + row * view.everyRow, view.first[1] + column * view.every]
  const parts = [
    [`w[${where.join(", ")}] = `, short(view.weights[place], 5)],
    ["q = ", String(view.codes[place])],
    ["ŵ = ", short(view.values[place], 5)],
    ["error ", short(view.errors[place], 3)],
  ]
  at(".read").replaceChildren(
    ...parts.map(([text, value]) => {
      const span = element("span", "", text)
      span.append(element("b", "", minus(value)))
      return span
    }),
  )
}

function histogram(at, state) {
  const { view } = state
  const { low, high, counts, grid, landed, title } = view.histogram
  const svg = at(".histogram svg")
  at(".histogram figcaption").textContent = title
  svg.setAttribute("aria-label", title)
  const [width, height, middle] = [1000, 200, 110]
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
  const x = (value) => ((value - low) / (high - low)) * width
  const parts = []
  const add = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name)
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
    parts.push(node)
  }
  // What no code reaches is clipped.
  const [first, last] = [x(grid[0]), x(grid[grid.length - 1])]
  const reached = [Math.min(first, last), Math.max(first, last)]
  const beyond = { y: 0, height, fill: view.colours.beyond, "fill-opacity": 0.16 }
  if (reached[0] > 0) add("rect", { x: 0, width: Math.min(width, reached[0]), ...beyond })
  if (reached[1] < width) add("rect", { x: Math.max(0, reached[1]), width: width - Math.max(0, reached[1]), ...beyond })
  const most = Math.max(...counts, 1)
  const step = width / counts.length
  let path = `M0 ${middle}`
  counts.forEach((count, place) => {
    const y = middle - (count / most) * (middle - 8)
    path += `V${y.toFixed(1)}H${((place + 1) * step).toFixed(1)}`
  })
  add("path", { d: `${path}V${middle}Z`, fill: view.colours.weights, "fill-opacity": 0.75 })
  const visible = grid.map((value, code) => [x(value), landed[code]]).filter(([place]) => place >= -0.5 && place <= width + 0.5)
  const peak = Math.max(...landed, 1)
  const gap = visible.length > 1 ? Math.abs(visible[1][0] - visible[0][0]) : width
  const bar = Math.max(1.2, Math.min(14, gap * 0.6))
  let lines = ""
  let bars = ""
  for (const [place, count] of visible) {
    lines += `M${place.toFixed(2)} 0V${height}`
    if (count) bars += `M${(place - bar / 2).toFixed(2)} ${middle}h${bar.toFixed(2)}v${((count / peak) * (height - middle - 8)).toFixed(1)}h${(-bar).toFixed(2)}z`
  }
  const thin = gap < 3 ? 0.18 : gap < 8 ? 0.32 : 0.55
  add("path", { d: lines, stroke: view.colours.grid, "stroke-opacity": thin, "stroke-width": 1, "vector-effect": "non-scaling-stroke" })
  add("path", { d: bars, fill: view.colours.grid })
  svg.replaceChildren(...parts)
  const [left, centre, right] = at(".axis").children
  left.textContent = minus(short(low, 3))
  centre.textContent = minus(short((low + high) / 2, 3))
  right.textContent = minus(short(high, 3))
  const key = (kind, colour, text, opacity = 1) => {
    const item = element("span")
    const mark = element("i", kind)
    Object.assign(mark.style, { background: colour, opacity })
    item.append(mark, text)
    return item
  }
  at(".key").replaceChildren(
    key("", view.colours.weights, "upwards: the weights", 0.75),
    key("line", view.colours.grid, `the ${grid.length} values that exist`),
    key("", view.colours.grid, "downwards: how many weights landed on each"),
    ...(parts[0].tagName === "rect" ? [key("", view.colours.beyond, "beyond the last code", 0.3)] : []),
  )
}

function worked(at, view) {
  at(".worked .title").textContent = `Worked through: w[${view.first[0] + view.cell[0]}, ${view.first[1] + view.cell[1]}]`
  at(".formulas").replaceChildren(
    ...view.formulas.map((formula) => {
      const row = element("div", "formula")
      row.append(...formula.map((piece) => math("math", { displaystyle: "true" }, piece.map(token))))
      return row
    }),
  )
}

function token(part) {
  if (typeof part !== "string") {
    return math("mfrac", {}, [math("mrow", {}, part.over.map(token)), math("mrow", {}, part.under.map(token))])
  }
  const [name, index] = part.split("_")
  if (index) return math("msub", {}, [math("mi", {}, name), math("mi", {}, index)])
  if (/^[(),|=+−·/]$/.test(part)) return math("mo", {}, part)
  return /\d/.test(part) ? math("mn", {}, part) : part.length > 2 ? math("mtext", {}, part) : math("mi", {}, part)
}

function math(name, attributes, content) {
  const node = document.createElementNS("http://www.w3.org/1998/Math/MathML", name)
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
  node.append(...(Array.isArray(content) ? content : [content]))
  return node
}

function ends(values) {
  let [low, high] = [Infinity, -Infinity]
  for (const value of values) {
    if (value < low) low = value
    if (value > high) high = value
  }
  return [low, high]
}

function rgb(colour) {
  const parts = colour.startsWith("#")
    ? [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16))
    : (colour.match(/[\d.]+/g) ?? [255, 255, 255]).slice(0, 3).map(Number)
  return parts
}

function mix(shades, t) {
  const end = t < 0 ? shades.low : shades.high
  const share = Math.abs(t)
  return shades.middle.map((part, place) => Math.round(part + (end[place] - part) * share))
}

function luminance(...parts) {
  const [red, green, blue] = parts.map((part) => (part / 255) ** 2.2)
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

function short(value, digits) {
  if (value === 0) return "0"
  const size = Math.abs(value)
  if (size < 1e-4 || size >= 1e7) return value.toExponential(Math.max(0, digits - 2))
  return String(Number(value.toPrecision(digits)))
}

const minus = (text) => text.replace("-", "−")

function element(name, kind, text) {
  const node = document.createElement(name)
  if (kind) node.className = kind
  if (text != null) node.textContent = text
  return node
}
