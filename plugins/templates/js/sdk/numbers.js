// Numbers of a JSON text that JavaScript cannot hold.

const SAFE_DIGITS = 15;
// No number that a double changes is without one of these: many digits, or an exponent.
const SUSPECT = /[\d.]{16}|\d[eE]/;

// The numbers of a JSON text whose value a double does not keep, and all others with the same double. Undefined: JavaScript keeps
// every number.
export const lossy = (json) => {
  if (!SUSPECT.test(json)) return undefined;
  const spelled = new Map();
  const changed = new Set();
  JSON.parse(json, (_, value, { source }) => {
    if (typeof value === "number") {
      if (!spelled.has(value)) spelled.set(value, new Set());
      spelled.get(value).add(source);
      if (isLossy(source, value)) changed.add(value);
    }
  });
  const all = [...changed].flatMap((value) => [...spelled.get(value)]);
  return all.length === 0 ? undefined : all;
};

const isLossy = (source, value) => {
  if (source.length <= SAFE_DIGITS && !/[eE]/.test(source)) return false;
  return decimal(source) !== decimal(value.toExponential());
};

// The value of a number: its digits without zeros at both ends, and the exponent of ten of the last digit. Undefined: zero, or
// infinity.
const decimal = (number) => {
  const parts = /^-?(\d+)(?:\.(\d*))?(?:[eE](.*))?$/.exec(number);
  if (parts === null) return undefined;
  const [, whole, fraction = "", exponent = "0"] = parts;
  const digits = whole + fraction;
  const kept = digits.replace(/0+$/, "");
  const significant = kept.replace(/^0+/, "");
  if (significant === "") return undefined;
  return `${significant} ${Number(exponent) - fraction.length + digits.length - kept.length}`;
};
