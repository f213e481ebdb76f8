// What Streamlit's elements lack for those who hear a page or use it without a mouse: the drawer's list is one list, and
// what scrolls sideways can be scrolled by keys. The drawer closes when its page has been chosen.
addEventListener("DOMContentLoaded", () => {
  const phone = matchMedia("(max-width: 768px)");
  const mend = () => {
    for (const list of document.querySelectorAll("[data-testid=stSidebarNavItems]:not([role])")) {
      list.setAttribute("role", "none");
      for (const group of list.children) if (group.tagName === "DIV") group.setAttribute("role", "list");
    }
    for (const code of document.querySelectorAll("pre:not([tabindex])")) code.tabIndex = 0;
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  }).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("click", (event) => {
    if (phone.matches && event.target.closest("[data-testid=stSidebarNavLink]"))
      setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click());
  });
});
