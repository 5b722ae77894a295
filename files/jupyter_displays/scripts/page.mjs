/** Builds the page of its own: jupyter_displays/static with index.html and scripts whose names have a hash. */

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { build } from 'esbuild';

const out = 'jupyter_displays/static';
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const options = { bundle: true, minify: true, legalComments: 'none', logLevel: 'warning', target: 'es2022' };
const { metafile } = await build({
  ...options,
  entryPoints: { page: 'src/page.ts' },
  chunkNames: '[name]-[hash]',
  entryNames: '[name]-[hash]',
  format: 'esm',
  metafile: true,
  outdir: out,
  splitting: true
});
const page = Object.keys(metafile.outputs).find(name => metafile.outputs[name].entryPoint === 'src/page.ts');
const style = await build({
  ...options,
  stdin: { contents: '@import "./page.css"; @import "./base.css";', loader: 'css', resolveDir: 'style' },
  write: false
});
const html = (await readFile('src/page.html', 'utf8'))
  .replace('@page@', path.basename(page))
  .replace('@style@', () => style.outputFiles[0].text.trim());
await writeFile(path.join(out, 'index.html'), html);
