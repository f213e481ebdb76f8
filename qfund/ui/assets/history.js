// One entry of the history for each page that somebody goes to. Streamlit makes two: it names the page and its parameters
// one after the other, and in either order; and a link that says less than everything is completed. What a visitor chooses
// on a page is an entry, as it always was.
(() => {
  const push = history.pushState.bind(history);
  let chose = false; // whether somebody has done anything since this page's address was last named
  let halfway = false; // the last entry has the next page's parameters on this page's path
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => (chose = true), true);
  addEventListener("popstate", () => (chose = halfway = false), true);
  history.pushState = (state, unused, url) => {
    const next = new URL(url ?? location.href, location.href);
    const samePath = next.pathname === location.pathname;
    const completes = samePath ? !chose : halfway && next.search === location.search;
    halfway = samePath && !completes;
    chose &&= samePath;
    return completes ? history.replaceState(state, unused, url) : push(state, unused, url);
  };
})();
