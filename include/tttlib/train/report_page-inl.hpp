#pragma once
/// The style sheet and the script of a report. Colours have at least 4.5:1 contrast for text and 3:1 for lines, in
/// both modes.

namespace ttt::detail {

inline constexpr const char* report_style = R"css(
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --card: #f3f4f4; --ink: #1c2126; --soft: #59626c; --rule: #dcdfe3; --link: #0b5cad; --tint: #eef3f9;
  --c0: #1f6fb5; --c1: #c4501b; --c2: #2b8049; --c3: #8a4fb0; --c4: #b5303f; --c5: #8a6a00; --c6: #0b8088; --c7: #5d666f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1e2226; --ink: #e7e9ec; --soft: #a3abb5; --rule: #343a41; --link: #7db7f0; --tint: #1b2633;
    --c0: #6aaeee; --c1: #f0925f; --c2: #6cc48a; --c3: #c496e6; --c4: #f0808b; --c5: #d8b64c; --c6: #56c4cc; --c7: #aab3bd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
main { max-width: 46rem; margin: 0 auto; padding: 3.5rem 1rem 4rem; overflow-wrap: break-word; }
h1 { margin: 0 0 1rem; font-size: clamp(1.6rem, 5vw, 2.15rem); line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; }
h2 { margin: 3rem 0 0.75rem; font-size: 1.25rem; line-height: 1.3; font-weight: 650; }
p { margin: 0 0 1rem; max-width: 42rem; }
a { color: var(--link); }
.lesson { font-size: 1.1rem; color: var(--soft); }
.result { margin: 1.5rem 0 0; padding: 0.75rem 1rem; background: var(--tint); border-left: 3px solid var(--c0); border-radius: 0 6px 6px 0; }
figure { margin: 2.25rem 0; }
figcaption { margin-bottom: 0.5rem; }
figcaption strong { font-weight: 650; }
figcaption span { display: block; color: var(--soft); font-size: 0.9rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; border-radius: 3px; }

.legend { display: flex; flex-wrap: wrap; gap: 0.15rem 1.25rem; margin: 0 0 0.5rem; padding: 0; list-style: none; font-size: 0.9rem; }
.legend li { display: flex; align-items: center; gap: 0.45rem; min-width: 0; }
.legend svg { flex: none; overflow: visible; }
.plot { position: relative; touch-action: pan-y; }
.plot:focus-visible { outline-offset: 1px; }
.plot svg { display: block; width: 100%; height: auto; overflow: visible; }
.plot .narrow { display: none; max-width: 30rem; }
@media (max-width: 35rem) { .plot .wide { display: none; } .plot .narrow { display: block; } }
.axes path { stroke: var(--rule); fill: none; }
.axes text { fill: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.guide { stroke: var(--soft); stroke-dasharray: 2 3; }
.guide:not(.on) { visibility: hidden; }
.unit { color: var(--soft); font-size: 0.8125rem; line-height: 1.4; margin-bottom: 0.2rem; }
.below { text-align: right; margin: 0.25rem 1rem 0 0; }
.line { stroke: currentColor; }
.stroke { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dash1 .stroke { stroke-dasharray: 7 5; } .dash2 .stroke { stroke-dasharray: 1 4.5; } .dash3 .stroke { stroke-dasharray: 9 4 1 4; }
.whiskers { fill: none; stroke-width: 1.25; opacity: 0.7; }
.marks path { fill: currentColor; stroke: var(--paper); stroke-width: 1.5; paint-order: stroke; }
.marks .on { stroke: currentColor; stroke-width: 3; }
.quiet path:not(.on) { visibility: hidden; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.tip {
  position: absolute; top: 0.4rem; left: 0; max-width: 100%; padding: 0.4rem 0.65rem; pointer-events: none; font-size: 0.85rem; line-height: 1.45;
  background: var(--paper); border: 1px solid var(--rule); border-radius: 6px; box-shadow: 0 2px 10px rgb(0 0 0 / 0.14); font-variant-numeric: tabular-nums;
}
.tip:empty { display: none; }
.tip div { display: flex; gap: 0.45rem; align-items: baseline; }
.tip i { flex: none; width: 0.6rem; height: 0.6rem; border-radius: 50%; background: currentColor; }
.tip b { margin-left: auto; padding-left: 0.6rem; font-weight: 600; white-space: nowrap; }

details { margin-top: 0; font-size: 0.9rem; }
summary { color: var(--soft); cursor: pointer; width: fit-content; padding: 0.15rem 0; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; }
details .scroll { max-height: 22rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: 0.925rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.9rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { padding-left: 0.25rem; }
thead th { font-weight: 600; color: var(--soft); font-size: 0.85rem; line-height: 1.3; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.paper { background: var(--card); color: var(--soft); font-style: italic; }
.picture { border-radius: 6px; border: 1px solid var(--rule); }
.picture img { display: block; height: auto; border-radius: 5px; }
.pixels { image-rendering: pixelated; }

.run { font-size: 0.925rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.4rem 1.5rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 35rem) { dl { display: block; } dd { margin-bottom: 0.7rem; } th, td { padding: 0.35rem 0.6rem; } main { padding-top: 2rem; } h2 { margin-top: 2.25rem; } }
code { font: 0.92em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
dd code { display: block; padding: 0.45rem 0.7rem; background: var(--card); border-radius: 6px; }
dd code span { display: inline-block; max-width: 100%; }
.reports { margin: 2rem 0 0; padding: 0; list-style: none; }
.reports li { padding: 1.25rem 0; border-top: 1px solid var(--rule); }
.reports h2 { margin: 0 0 0.35rem; font-size: 1.15rem; }
.reports p { margin: 0 0 0.4rem; color: var(--soft); }
.reports p + p { margin: 0; color: var(--ink); }
@media print { .plot .tip, summary { display: none; } figure { break-inside: avoid; } }
)css";

/// Values under the pointer, under a finger, or by arrow keys; the page is complete without them.
inline constexpr const char* report_script = R"js(
'use strict';
for (const plot of document.querySelectorAll('.plot')) {
  const tip = plot.querySelector('.tip');
  const drawings = [...plot.querySelectorAll('svg')].map(svg => {
    const columns = new Map();
    for (const mark of svg.querySelectorAll('[data-at]')) {
      const at = Number(mark.dataset.at);
      if (!columns.has(at)) columns.set(at, []);
      columns.get(at).push(mark);
    }
    // As a title element the name would pop up beside the values.
    const title = svg.querySelector('title');
    svg.setAttribute('aria-label', title.textContent);
    svg.setAttribute('aria-describedby', svg.querySelector('desc').id);
    svg.removeAttribute('aria-labelledby');
    title.remove();
    return {svg, columns: [...columns].sort((a, b) => a[0] - b[0])};
  });
  const shown = () => drawings.find(d => d.svg.getClientRects().length) || drawings[0];
  let current = -1;

  const clear = () => {
    current = -1;
    tip.replaceChildren();
    for (const part of plot.querySelectorAll('.on')) part.classList.remove('on');
  };
  const show = index => {
    const {svg, columns} = shown();
    if (!columns.length) return;
    index = Math.max(0, Math.min(columns.length - 1, index));
    if (index === current) return;
    clear();
    current = index;
    const [at, marks] = columns[index];
    const box = svg.viewBox.baseVal;
    const guide = svg.querySelector('.guide');
    guide.setAttribute('transform', `translate(${at} 0)`);
    guide.classList.add('on');
    tip.append(`${svg.dataset.x} ${marks[0].dataset.x}`);
    for (const mark of marks) {
      mark.classList.add('on');
      const line = mark.closest('.line'), row = document.createElement('div'), dot = document.createElement('i');
      const value = document.createElement('b');
      dot.className = line.getAttribute('class').split(' ')[1];
      value.textContent = mark.dataset.y;
      row.append(dot, line.dataset.name ? line.dataset.name + ' ' : '', value);
      tip.append(row);
    }
    const x = at * svg.getBoundingClientRect().width / box.width, room = plot.clientWidth;
    const left = x + 14 + tip.offsetWidth <= room ? x + 14 : x - 14 - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(left, room - tip.offsetWidth))}px`;
  };

  const point = event => {
    const {svg, columns} = shown(), rect = svg.getBoundingClientRect();
    const x = (event.clientX - rect.left) * svg.viewBox.baseVal.width / rect.width;
    let best = 0;
    columns.forEach(([at], i) => { if (Math.abs(at - x) < Math.abs(columns[best][0] - x)) best = i; });
    show(best);
  };
  plot.addEventListener('pointermove', point);
  plot.addEventListener('pointerdown', point);
  plot.addEventListener('pointerleave', event => { if (event.pointerType === 'mouse' && document.activeElement !== plot) clear(); });
  plot.addEventListener('blur', clear);
  addEventListener('resize', clear);

  plot.tabIndex = 0;
  plot.setAttribute('role', 'group');
  plot.setAttribute('aria-label', drawings[0].svg.getAttribute('aria-label') + ': arrow keys read the values');
  plot.addEventListener('keydown', event => {
    const last = shown().columns.length - 1;
    const steps = {ArrowRight: current + 1, ArrowLeft: current < 0 ? last : current - 1, Home: 0, End: last};
    if (event.key === 'Escape') clear();
    else if (event.key in steps) show(steps[event.key]);
    else return;
    event.preventDefault();
  });
}
)js";

}  // namespace ttt::detail
