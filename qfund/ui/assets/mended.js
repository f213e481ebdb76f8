// What Streamlit's elements lack for those who hear a page or use it without a mouse: the drawer's list is one list, and
// what scrolls sideways can be scrolled by keys. The drawer closes when its page has been chosen, and "Copy link" copies
// what it shows, as "Copy" does beside lines of code. A chart is saved as SVG or as PNG.
addEventListener("DOMContentLoaded", () => {
  const phone = matchMedia("(max-width: 768px)");
  // Plotly's button saves a figure as SVG; the same as PNG beside it.
  const asPng = (saved) => {
    const button = saved.cloneNode(true);
    button.ariaLabel = button.dataset.title = "Download plot as PNG";
    saved.ariaLabel = saved.dataset.title = "Download plot as SVG";
    [saved.textContent, button.textContent] = ["SVG", "PNG"];
    button.addEventListener("click", () => {
      const options = saved.closest(".js-plotly-plot")._context.toImageButtonOptions;
      options.format = "png";
      saved.click();
      options.format = "svg";
    });
    return button;
  };
  const mend = () => {
    for (const list of document.querySelectorAll("[data-testid=stSidebarNavItems]")) {
      list.role = "none";
      for (const group of list.children) if (group.tagName === "DIV") group.role = "list";
    }
    for (const saved of document.querySelectorAll(".modebar-btn:only-child")) saved.after(asPng(saved));
    const wide = ["pre", ".katex-display", ".st-key-wide"].map((one) => `${one}:not([tabindex])`);
    for (const scrolled of document.querySelectorAll(wide)) scrolled.tabIndex = 0;
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  }).observe(document.body, { childList: true, subtree: true });
  const copy = (text, done) => navigator.clipboard?.writeText(text.trim()).then(() => {
    const told = Object.assign(document.createElement("output"), { textContent: done, className: "qfund-told" });
    document.body.append(told);
    setTimeout(() => told.remove(), 2500);
  }, () => {});
  const copyLink = (tries) => {
    const link = document.querySelector("[data-testid=stPopoverBody] code");
    if (!link) return tries && setTimeout(copyLink, 50, tries - 1);
    copy(link.innerText, "Link copied");
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest(".st-key-copy_link button") && !event.target.closest("[data-testid=stPopoverBody]")) copyLink(60);
    if (event.target.matches(".qfund-copy")) copy(event.target.previousElementSibling.innerText, "Copied");
    if (phone.matches && event.target.closest("[data-testid=stSidebarNavLink]"))
      setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click());
  });
});
