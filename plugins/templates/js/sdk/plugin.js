// The component's entry: the function of src/plugin.js as the contract's export.
import { plugin } from "./hookloom.js";
import * as author from "../src/plugin.js";

export const transform = { transform: plugin(author.transform) };
