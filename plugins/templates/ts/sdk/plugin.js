// The component's entry: the function of src/plugin.ts, which build.mjs has bundled, as the contract's export.
import { plugin } from "./hookloom.js";
import map from "../build/map.js";
import * as author from "../build/plugin.js";

export const transform = { transform: plugin(author.transform, map) };
