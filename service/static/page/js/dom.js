// Elements from data. Strings become text nodes, so markup in names has no effect.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an HTML element.
 * Attributes: `class`, `dataset` (an object), `on…` (a listener), `value` and `checked`
 * (properties), and any other attribute; null, undefined and false omit it, true leaves it empty.
 * Children: nodes, strings, numbers and nested arrays of them; null, undefined and false are
 * omitted.
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Create an SVG element, with the attributes and children of `el`. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Remove all children of a node, and return it. */
export function clear(node) {
  node.replaceChildren();
  return node;
}

/** Replace all children of a node, and return it. */
export function replace(node, ...children) {
  clear(node);
  append(node, children);
  return node;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      node.addEventListener(name.slice(2).toLowerCase(), value);
    } else if (name === "dataset") {
      Object.assign(node.dataset, value);
    } else if ((name === "value" || name === "checked") && name in node) {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(node, children);
  // A value can only select an option that exists.
  if (node.tagName === "SELECT" && attributes?.value !== undefined) node.value = attributes.value;
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

let lastId = 0;

/** Return an id that no other element has. */
export function newId(prefix = "id") {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
