// A box that scrolls sideways can be reached by the key Tab, and then scrolled by arrows; one that fits is passed over.
const SCROLLS = { tabindex: "0", role: "group", "aria-label": "Scrolls sideways" };

const sizes = new ResizeObserver(changes => {
  for (const { target: box } of changes) {
    const wide = box.scrollWidth > box.clientWidth;
    for (const [name, value] of Object.entries(SCROLLS)) wide ? box.setAttribute(name, value) : box.removeAttribute(name);
  }
});

// after Material, which puts a box around every table
document$.subscribe(() => {
  for (const box of document.querySelectorAll(".figure, .table, .formula, .md-typeset__scrollwrap")) sizes.observe(box);
});
