/* The page at /docs: GET spec, for people. Every text of the specification is put in as text. */
'use strict';

/* A new element of `parent`. */
function add(parent, name, text = '', className = '') {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  parent.append(element);
  return element;
}

function resolve(spec, schema) {
  const name = schema && schema.$ref && schema.$ref.split('/').pop();
  return name ? spec.definitions[name] : schema || {};
}

function typeOf(spec, schema) {
  const what = resolve(spec, schema);
  if (what.type === 'array') return `array of ${typeOf(spec, what.items) || 'values'}`;
  return what.type || '';
}

/* The fields of a request, be it a form's or those of a JSON body: [{name, type, required, ...}]. */
function fieldsOf(spec, parameters) {
  return parameters.flatMap((field) => field.in === 'body' ? propertiesOf(spec, field.schema) : [field]);
}

function propertiesOf(spec, schema) {
  const what = resolve(spec, schema);
  return Object.entries(what.properties || {}).map(([name, property]) =>
    ({ ...property, name, required: (what.required || []).includes(name) }));
}

function explain(field) {
  const parts = [field.description || ''];
  if (field.enum) parts.push(`One of: ${field.enum.join(', ')}.`);
  if (field.default !== undefined) parts.push(`Default: ${field.default}.`);
  return parts.filter(Boolean).map((part) => part.replace(/[^.]$/, '$&.')).join(' ');
}

function addTable(parent, heads, rows) {
  const table = add(add(parent, 'div', '', 'wide'), 'table');
  const line = add(add(table, 'thead'), 'tr');
  for (const head of heads) add(line, 'th', head).scope = 'col';
  const body = add(table, 'tbody');
  for (const row of rows) {
    const cells = add(body, 'tr');
    row.forEach((cell, i) => add(i === 0 ? add(cells, 'td') : cells, i === 0 ? 'code' : 'td', cell));
  }
}

function addFields(parent, spec, fields) {
  addTable(parent, ['Field', 'Type', 'Needed', 'What it is'],
    fields.map((field) => [field.name, typeOf(spec, field), field.required ? 'yes' : '', explain(field)]));
}

function addEndpoint(parent, spec, method, path, endpoint) {
  const details = add(parent, 'details', '', 'card endpoint');
  const summary = add(details, 'summary');
  add(summary, 'code', `${method.toUpperCase()} ${path}`);
  add(summary, 'span', endpoint.summary);
  const fields = fieldsOf(spec, endpoint.parameters || []);
  if (endpoint.consumes) add(details, 'p', `Takes ${endpoint.consumes.join(', ')}.`);
  if (fields.length > 0) addFields(details, spec, fields);
  for (const [status, response] of Object.entries(endpoint.responses)) {
    add(details, 'h3', `${status} ${response.description}`);
    const answer = propertiesOf(spec, response.schema);
    if (answer.length > 0 && status === '200') addFields(details, spec, answer);
  }
}

/* {section: [[method, path, endpoint]]}; the specification's paths come in alphabetical order. */
function sectionsOf(spec) {
  const sections = { translate: [] }; /* what most come for is first */
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, endpoint] of Object.entries(methods)) {
      (sections[endpoint.tags[0]] ||= []).push([method, path, endpoint]);
    }
  }
  return sections;
}

function show(spec) {
  const base = spec.basePath === '/' ? '' : spec.basePath;
  document.getElementById('about').textContent = `${spec.info.description} Version ${spec.info.version}.`;
  const place = document.getElementById('endpoints');
  for (const [section, endpoints] of Object.entries(sectionsOf(spec))) {
    add(place, 'h2', section);
    for (const [method, path, endpoint] of endpoints) addEndpoint(place, spec, method, base + path, endpoint);
  }
}

try {
  document.documentElement.dataset.theme = localStorage.getItem('t5serve.theme') || '';
} catch { /* private mode */ }
fetch('spec')
  .then((reply) => reply.json())
  .then(show)
  .catch((problem) => { document.getElementById('about').textContent = `The specification cannot be read: ${problem.message}`; });
