// The bits of a number, in their fields; a click turns one over.

export default function (component) {
  const { data, parentElement: parent, setStateValue } = component
  const view = JSON.parse(new TextDecoder().decode(data))
  const row = parent.querySelector(".row")
  const focused = parent.activeElement ?? parent.getRootNode?.().activeElement
  const held = focused?.dataset?.place
  const bits = view.fields.map((field) => field.bits).join("")
  parent.querySelector(".bits").classList.toggle("many", bits.length > 20)
  parent.querySelector(".bits").dataset.bits = bits
  let place = 0
  row.replaceChildren(
    ...view.fields.map((field) => {
      const box = element("div", "field")
      box.style.setProperty("--own", field.colour)
      box.style.setProperty("--ink", field.ink)
      const cells = element("div", "cells")
      for (const [index, bit] of [...field.bits].entries()) {
        const at = place++
        const cell = element("button", "", bit)
        cell.type = "button"
        cell.dataset.place = at
        cell.setAttribute("role", "switch")
        cell.setAttribute("aria-checked", bit === "1")
        cell.setAttribute("aria-label", `${field.name}, bit ${index + 1} of ${field.bits.length}: ${bit}`)
        if (field.weights) cell.append(element("small", "", field.weights[index]))
        cell.onclick = () => {
          const turned = bits.slice(0, at) + (bit === "1" ? "0" : "1") + bits.slice(at + 1)
          setStateValue("bits", { format: view.format, bits: turned })
        }
        cells.append(cell)
      }
      box.append(cells, element("div", "name", field.name), element("div", "says", field.says))
      return box
    }),
  )
  if (held != null) row.querySelector(`[data-place="${held}"]`)?.focus()
}

function element(name, kind, text) {
  const node = document.createElement(name)
  if (kind) node.className = kind
  if (text != null) node.append(text)
  return node
}
