// What moves on pages that already work without it: parts that keep themselves fresh, the
// stream of events, the chart, the player. Attackers' text is only ever set as text.
'use strict';

const theme = () => getComputedStyle(document.documentElement);

// A part that could not be fetched says since when it is old; the next one that comes says
// nothing. Times are in the zone of the page.
const fetched = new WeakMap();
function upToDate(part) {
  fetched.set(part, new Date());
  const note = part.previousElementSibling;
  if (note && note.matches('[data-old]')) note.remove();
}
function outdated(part) {
  if (!fetched.has(part) || (part.previousElementSibling && part.previousElementSibling.matches('[data-old]'))) return;
  let since = fetched.get(part).toLocaleTimeString();
  try {
    since = new Intl.DateTimeFormat('sv-SE', { timeZone: document.documentElement.dataset.zone, timeStyle: 'medium' }).format(fetched.get(part));
  } catch { /* The server's own zone has no name that a browser knows. */ }
  const note = document.createElement('p');
  note.className = 'problem';
  note.setAttribute('role', 'status');
  note.dataset.old = '';
  note.textContent = 'Not up to date since ' + since + ': the dashboard did not answer. It is asked again.';
  part.before(note);
}

// Parts of pages: fetched again every so often, or when a stream says that they changed.
function keepFresh(part) {
  upToDate(part);
  const refresh = () => {
    // A form in use, or something selected, is not pulled away.
    if (document.hidden || part.contains(document.activeElement)) return;
    htmx.ajax('GET', part.dataset.fresh, { target: part, swap: 'innerHTML' });
  };
  if (part.dataset.every) setInterval(refresh, Number(part.dataset.every));
  if (part.dataset.on) {
    const source = new EventSource(part.dataset.on);
    let first = true;
    source.addEventListener('workers', () => {
      if (!first) refresh();
      first = false;
    });
    source.addEventListener('error', () => outdated(part));
    addEventListener('pagehide', () => source.close());
  }
}

// Events as they come, on top of the table.
function follow(bar) {
  const body = document.querySelector(bar.dataset.rows);
  const state = bar.querySelector('[data-state]');
  const button = bar.querySelector('[data-pause]');
  const waiting = bar.querySelector('[data-waiting]');
  const most = 300;
  let paused = false;
  let kept = [];
  const say = (text, kind) => {
    state.textContent = text;
    state.className = 'state ' + (kind || '');
  };
  const link = (td, text, href) => {
    const a = document.createElement('a');
    a.href = href;
    a.textContent = text;
    td.append(a);
  };
  const cell = (row, text, href) => {
    const td = row.insertCell();
    if (href) link(td, text, href);
    else td.textContent = text;
    return td;
  };
  // Times in the zone of the rows that were there before; Swedes write them as we do.
  let clock = null;
  try {
    clock = new Intl.DateTimeFormat('sv-SE', { timeZone: bar.dataset.zone, dateStyle: 'short', timeStyle: 'medium' });
  } catch { /* The server's own zone has no name that a browser knows. */ }
  const time = (stamp) => clock ? clock.format(new Date(stamp)) : stamp.slice(0, 19).replace('T', ' ') + 'Z';
  const own = new Set(['src_ip', 'src_port', 'dst_ip', 'dst_port', 'proto', 'session', 'eid', 'secret_b64']);
  const seen = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');
  const show = (event) => {
    const row = body.insertRow(0);
    cell(row, time(event.timestamp), '/logs/' + event.id).className = 'nowrap';
    cell(row, seen(event.decky)).className = 'nowrap';
    cell(row, seen(event.service));
    cell(row, seen(event.event_type));
    const ip = event.attacker_ip || '';
    cell(row, seen(ip), ip && '/attackers/' + encodeURIComponent(ip));
    const fields = event.fields || {};
    const what = Object.entries(fields).filter(([k]) => !own.has(k))
      .map(([k, v]) => k + '=' + v).join(' ');
    const last = cell(row, seen(what.slice(0, 300)) + ' ');
    last.className = 'wrap';
    const file = fields.sha256 || fields.body_sha256;
    if (file && fields.stored === 'true') link(last, 'file', '/artifacts/' + encodeURIComponent(file));
    if (fields.session) {
      last.append(' ');
      link(last, 'session', '/sessions/' + encodeURIComponent(fields.session));
    }
    while (body.rows.length > most) body.deleteRow(-1);
  };
  const source = new EventSource(bar.dataset.stream);
  source.onopen = () => say(paused ? 'paused' : 'live', paused ? '' : 'live');
  source.onerror = () => say(source.readyState === 2 ? 'ended: reload the page' : 'reconnecting', 'bad');
  source.addEventListener('log', (message) => {
    const event = JSON.parse(message.data);
    if (paused) {
      kept.push(event);
      if (kept.length > most) kept.shift();
      waiting.textContent = kept.length + ' waiting';
    } else {
      show(event);
    }
  });
  source.addEventListener('gap', () => {
    waiting.textContent = 'some events were passed over; reload to see them';
  });
  button.addEventListener('click', () => {
    paused = !paused;
    button.textContent = paused ? 'Go on' : 'Pause';
    say(paused ? 'paused' : 'live', paused ? '' : 'live');
    if (!paused) {
      kept.forEach(show);
      kept = [];
      waiting.textContent = '';
    }
  });
  addEventListener('pagehide', () => source.close());
  bar.hidden = false;
}

// The chart says what its table says.
function draw(place) {
  const table = place.closest('section').querySelector('[data-series]');
  if (!window.echarts || !table) return;
  const rows = [...table.tBodies[0].rows].map((r) => [r.cells[0].textContent, Number(r.cells[1].textContent)]);
  place.hidden = false;
  const style = theme();
  const chart = echarts.init(place);
  chart.setOption({
    animation: false,
    grid: { left: 45, right: 10, top: 10, bottom: 25 },
    tooltip: { trigger: 'axis', renderMode: 'richText' },
    xAxis: { type: 'category', data: rows.map((r) => r[0]), axisLabel: { color: style.getPropertyValue('--quiet') } },
    yAxis: { type: 'value', minInterval: 1, axisLabel: { color: style.getPropertyValue('--quiet') }, splitLine: { lineStyle: { color: style.getPropertyValue('--line') } } },
    series: [{ type: 'bar', data: rows.map((r) => r[1]), itemStyle: { color: style.getPropertyValue('--accent') } }],
  });
}

// The player shows the lines of the transcript when their time has come.
function play(bar) {
  const list = document.querySelector('[data-lines]');
  const lines = [...list.children];
  const button = bar.querySelector('[data-play]');
  const speed = bar.querySelector('[data-speed]');
  const seek = bar.querySelector('[data-seek]');
  const clock = bar.querySelector('[data-clock]');
  let shown = lines.length;
  let timer = 0;
  const set = (n) => {
    shown = n;
    seek.value = n;
    lines.forEach((line, i) => { line.hidden = i >= n; });
    clock.textContent = n + ' of ' + lines.length;
    if (n > 0) lines[n - 1].scrollIntoView({ block: 'nearest' });
  };
  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = 'Play';
  };
  const step = () => {
    if (shown >= lines.length) return stop();
    const from = shown > 0 ? Number(lines[shown - 1].dataset.at) : 0;
    const wait = Math.min((Number(lines[shown].dataset.at) - from) / Number(speed.value), 2000);
    timer = setTimeout(() => { set(shown + 1); step(); }, wait);
  };
  button.addEventListener('click', () => {
    if (timer) return stop();
    if (shown >= lines.length) set(0);
    button.textContent = 'Stop';
    step();
  });
  seek.addEventListener('input', () => { stop(); set(Number(seek.value)); });
  set(shown);
  bar.hidden = false;
}

document.querySelectorAll('[data-fresh]').forEach(keepFresh);
document.querySelectorAll('[data-stream]').forEach(follow);
document.querySelectorAll('[data-player]').forEach(play);
for (const failed of ['htmx:responseError', 'htmx:sendError', 'htmx:timeout']) {
  document.body.addEventListener(failed, (event) => outdated(event.detail.target));
}
document.body.addEventListener('htmx:afterSwap', (event) => upToDate(event.detail.target));
const charts = () => document.querySelectorAll('[data-chart]').forEach(draw);
charts();
document.body.addEventListener('htmx:afterSwap', charts);
// A chart whose place is replaced would otherwise be kept for ever.
document.body.addEventListener('htmx:beforeSwap', (swap) => {
  if (!window.echarts) return;
  swap.detail.target.querySelectorAll('[data-chart]').forEach((place) => {
    const chart = echarts.getInstanceByDom(place);
    if (chart) chart.dispose();
  });
});
