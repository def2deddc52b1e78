/* The page at /. Talks to the same API as every other client: GET languages, GET frontend/settings, POST translate.
 * A translation starts when typing pauses; the one before is cancelled, which frees its place on the server. */
'use strict';

const ALTERNATIVES = 2;
const PAUSE_MS = 400;

const get = (id) => document.getElementById(id);
const ui = {
  text: get('text'), source: get('source'), target: get('target'), translation: get('translation'), state: get('state'),
  detected: get('detected'), count: get('count'), alternatives: get('alternatives'), curl: get('curl'),
  swap: get('swap'), copy: get('copy'), save: get('save'), key: get('key'),
};

let languages = [];
let settings = { alternativesLimit: -1, apiKeys: false, charLimit: -1, frontendTimeout: PAUSE_MS, keyRequired: false,
                 language: { source: { code: 'auto' }, target: { code: '' } } };
let running = null; /* AbortController of the request on its way */
let timer = 0;
let detectedCode = '';

/* Settings of the reader, where the browser keeps any. */
function remember(key, value) {
  try { localStorage.setItem('t5serve.' + key, value); } catch { /* private mode */ }
}
function recall(key) {
  try { return localStorage.getItem('t5serve.' + key) || ''; } catch { return ''; }
}

function nameOf(code) {
  const found = languages.find((language) => language.code === code);
  return found ? found.name : code;
}

function fill(select, entries, wanted) {
  select.replaceChildren(...entries.map(([code, name]) => new Option(name, code)));
  if (entries.some(([code]) => code === wanted)) select.value = wanted;
  select.disabled = entries.length === 0;
}

/* The targets that the chosen source has; those of any while the language is to be detected. A language is its own too. */
function fillTargets(wanted) {
  const source = languages.find((language) => language.code === ui.source.value);
  const codes = [...new Set((source ? [source] : languages).flatMap(
    (language) => language.targets.filter((code) => code !== language.code)))];
  fill(ui.target, codes.map((code) => [code, nameOf(code)]), wanted || ui.target.value);
}

function requestBody(key) {
  const limit = settings.alternativesLimit;
  const alternatives = limit >= 0 ? Math.min(limit, ALTERNATIVES) : ALTERNATIVES;
  const body = { q: ui.text.value, source: ui.source.value, target: ui.target.value, alternatives };
  return key ? { ...body, api_key: key } : body;
}

/* In single quotes a shell takes everything as it is, but for the quote itself. */
function showCurl() {
  const body = JSON.stringify(requestBody(ui.key.value && 'YOUR_KEY')).replaceAll("'", "'\\''");
  const url = new URL('translate', location.href).href;
  ui.curl.textContent = `curl -s ${url} -H 'content-type: application/json' \\\n     -d '${body}'`;
}

function showCount() {
  const n = [...ui.text.value].length;
  const limit = settings.charLimit;
  ui.count.textContent = limit >= 0 ? `${n} of ${limit} characters` : `${n} characters`;
  ui.count.classList.toggle('error', limit >= 0 && n > limit);
}

function showState(text, isError) {
  ui.state.textContent = text;
  ui.state.classList.toggle('error', Boolean(isError));
}

function showAlternatives(list) {
  ui.alternatives.hidden = list.length === 0;
  ui.alternatives.querySelector('ul').replaceChildren(...list.map((text) => {
    const item = document.createElement('li');
    item.textContent = text;
    return item;
  }));
}

function showDetected(detected) {
  detectedCode = detected && detected.confidence > 0 ? detected.language : '';
  ui.detected.hidden = !detectedCode;
  if (detectedCode) {
    ui.detected.textContent = `Detected: ${nameOf(detectedCode)} (${Math.round(detected.confidence)} %)`;
  }
  ui.swap.disabled = ui.source.value === 'auto' && !detectedCode;
}

function showReply(reply) {
  ui.translation.textContent = reply.translatedText;
  ui.translation.classList.remove('stale');
  ui.translation.lang = ui.target.value;
  showAlternatives(reply.alternatives || []);
  showDetected(reply.detectedLanguage);
  ui.copy.disabled = ui.save.disabled = reply.translatedText === '';
}

/* What the reader should know of how a translation came about. */
function remark(reply) {
  if (reply.finish_reason === 'length') return 'A sentence was too long and is cut short.';
  return reply.pivot ? `Through ${nameOf(reply.pivot)}` : '';
}

function showNothing() {
  showReply({ translatedText: '' });
  showState('');
}

async function translate() {
  if (running) running.abort();
  running = null;
  showCurl();
  if (ui.text.value.trim() === '') {
    showNothing();
    return;
  }
  if (settings.keyRequired && ui.key.value === '') {
    showNothing();
    showState('This server needs an API key.', true);
    return;
  }
  const own = running = new AbortController();
  showState('Translating…');
  ui.translation.classList.add('stale');
  try {
    const response = await fetch('translate', {
      method: 'POST', headers: { 'content-type': 'application/json' }, signal: own.signal,
      body: JSON.stringify(requestBody(ui.key.value)),
    });
    const reply = await response.json().catch((problem) => { if (response.ok) throw problem; return {}; });
    if (own.signal.aborted) return;
    if (!response.ok) throw new Error(reply.error || `status ${response.status}`);
    showReply(reply);
    showState(remark(reply));
  } catch (error) {
    if (own.signal.aborted) return;
    showState(error instanceof TypeError ? 'The server cannot be reached.' : error.message, true);
  }
  if (running === own) running = null;
}

function translateSoon() {
  clearTimeout(timer);
  timer = setTimeout(translate, settings.frontendTimeout);
  showCount();
  showCurl();
}

function translateNow() {
  clearTimeout(timer);
  translate();
}

/* Texts change places too: what was the translation is the next text. */
function swap() {
  const source = ui.source.value === 'auto' ? detectedCode : ui.source.value;
  const target = ui.target.value;
  if (!source || ui.swap.disabled) return;
  const back = languages.find((language) => language.code === target);
  if (!back || !back.targets.some((code) => code === source && code !== target)) {
    showState(`There is no translation from ${nameOf(target)} to ${nameOf(source)}.`, true);
    return;
  }
  ui.source.value = target;
  fillTargets(source);
  ui.text.value = ui.translation.textContent;
  chosen();
}

/* The reader chose languages. */
function chosen() {
  remember('source', ui.source.value);
  remember('target', ui.target.value);
  if (ui.source.value !== 'auto') showDetected(null);
  showCount();
  translateNow();
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed';
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

function save() {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([ui.translation.textContent], { type: 'text/plain;charset=utf-8' }));
  link.download = `translation.${ui.target.value}.txt`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function open(file) {
  if (!file) return;
  const isText = file.type.startsWith('text/') || file.name.toLowerCase().endsWith('.txt');
  if (!isText) {
    showState(`${file.name} is not a text file.`, true);
    return;
  }
  ui.text.value = await file.text();
  showCount();
  translateNow();
}

function onDrop(event) {
  const file = event.dataTransfer.files[0];
  get('drop').classList.remove('over');
  if (!file) return; /* text that is dragged falls into the field by itself */
  event.preventDefault();
  open(file);
}

function onKey(event) {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) translateNow();
  else if (event.altKey && event.code === 'KeyS') swap();
  else if (event.altKey && event.code === 'KeyC') copy(ui.translation.textContent, ui.copy);
  else return;
  event.preventDefault();
}

function switchTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = isDark ? 'light' : 'dark';
  remember('theme', document.documentElement.dataset.theme);
}

function listen() {
  ui.text.addEventListener('input', translateSoon);
  ui.source.addEventListener('change', () => { fillTargets(); chosen(); });
  ui.target.addEventListener('change', chosen);
  ui.swap.addEventListener('click', swap);
  ui.copy.addEventListener('click', () => copy(ui.translation.textContent, ui.copy));
  ui.save.addEventListener('click', save);
  get('clear').addEventListener('click', () => { ui.text.value = ''; ui.text.focus(); showCount(); translateNow(); });
  get('file').addEventListener('change', (event) => { open(event.target.files[0]); event.target.value = ''; });
  ui.key.addEventListener('change', () => { remember('key', ui.key.value); translateNow(); });
  get('copy-curl').addEventListener('click', () => copy(ui.curl.textContent, get('copy-curl')));
  get('theme').addEventListener('click', switchTheme);
  get('form').addEventListener('submit', (event) => { event.preventDefault(); translateNow(); });
  get('drop').addEventListener('dragover', (event) => {
    if (![...event.dataTransfer.types].includes('Files')) return;
    event.preventDefault();
    get('drop').classList.add('over');
  });
  get('drop').addEventListener('dragleave', () => get('drop').classList.remove('over'));
  get('drop').addEventListener('drop', onDrop);
  document.addEventListener('keydown', onKey);
}

async function fetchJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

/* /?source=en&target=de&q=... fills the form, as links of LibreTranslate do. */
async function start() {
  const query = new URLSearchParams(location.search);
  if (recall('theme')) document.documentElement.dataset.theme = recall('theme');
  listen();
  try {
    [languages, settings] = await Promise.all([fetchJson('languages'), fetchJson('frontend/settings')]);
  } catch (error) {
    showState(`The server does not answer: ${error.message}`, true);
    return;
  }
  const sources = languages.filter((language) => language.targets.some((code) => code !== language.code));
  get('key-field').hidden = !settings.apiKeys;
  ui.key.value = settings.apiKeys ? recall('key') : '';
  fill(ui.source, [['auto', 'Detect language'], ...sources.map((language) => [language.code, language.name])],
       query.get('source') || recall('source') || settings.language.source.code);
  fillTargets(query.get('target') || recall('target') || settings.language.target.code);
  if (languages.length === 0) showState('The model of this server names no languages.', true);
  if (query.get('q')) ui.text.value = query.get('q');
  showDetected(null);
  showCount();
  translateNow();
}

start();
