// The stack of an error, as the engine writes it, reduced to the author's functions, at their places in the author's files.

const FRAMES_MAX = 16;
// "    at deep (/src/plugin.js:3:14)", or without a function for code outside of functions.
const FRAME = /^\s*at (?:(.*) \()?\/([^():]+):(\d+):(\d+)\)?$/;
// The sdk and libraries.
const FOREIGN = /^(sdk|node_modules)\//;
const BUNDLE = "build/plugin.js";

export const frames = (stack, map) => {
  const found = [];
  for (const line of stack.split("\n")) {
    const match = FRAME.exec(line);
    if (match === null) continue;
    const [, name, file, row, column] = match;
    let position = { file, line: Number(row), column: Number(column) };
    if (map !== undefined && file === BUNDLE) position = original(map, position);
    if (position === undefined || FOREIGN.test(position.file)) continue;
    found.push({ function: name === undefined || name === "<eval>" ? "module" : name, position });
    if (found.length === FRAMES_MAX) break;
  }
  return found;
};

// The place in the author's source that a place in the bundle came from. Undefined: none, it was added by the bundler.
// The format: https://tc39.es/ecma426/
const original = (text, { line, column }) => {
  const { sources, mappings } = JSON.parse(text);
  let [source, row, col] = [0, 0, 0];
  let best;
  const rows = mappings.split(";");
  for (let i = 0; i < line && i < rows.length; i++) {
    let generated = 0;
    for (const segment of rows[i] === "" ? [] : rows[i].split(",")) {
      const numbers = decoded(segment);
      generated += numbers[0];
      if (numbers.length < 4) continue;
      source += numbers[1];
      row += numbers[2];
      col += numbers[3];
      if (i === line - 1 && generated <= column - 1) best = { file: sources[source], line: row + 1, column: col + 1 };
    }
  }
  return best && { ...best, file: best.file.replace(/^(\.\.\/)+/, "") };
};

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Numbers in base 64 with variable length: five bits each, the lowest first; the lowest bit of all is the sign.
const decoded = (segment) => {
  const numbers = [];
  let [value, shift] = [0, 0];
  for (const letter of segment) {
    const digit = DIGITS.indexOf(letter);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    numbers.push(value & 1 ? -(value >>> 1) : value >>> 1);
    [value, shift] = [0, 0];
  }
  return numbers;
};
