// Bundles src/plugin.ts and the packages that it uses into build/plugin.js, and keeps the source map, so that errors name the lines
// of the TypeScript files.
import { build } from "esbuild";
import { mkdir, writeFile } from "node:fs/promises";

const { outputFiles } = await build({
  entryPoints: ["src/plugin.ts"],
  outfile: "build/plugin.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  external: ["hookloom:*"],
  sourcemap: "external",
  sourcesContent: false,
  logLevel: "warning",
  write: false,
});
const text = (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
await mkdir("build", { recursive: true });
await writeFile("build/plugin.js", text(".js"));
await writeFile("build/map.js", `export default ${JSON.stringify(text(".map"))};\n`);
