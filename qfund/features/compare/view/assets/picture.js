// A drawing made by document/svg.py, where every text is a text: as it is, in the colours of what is around it.
export default function ({ data, parentElement }) {
  parentElement.querySelector(".picture").innerHTML = data
}
