/** Builds the script and the style of the page of its own: jupyter_displays/static. */

import { rm } from 'node:fs/promises';

import { build } from 'esbuild';

const outdir = 'jupyter_displays/static';
await rm(outdir, { recursive: true, force: true });
await build({
  bundle: true,
  chunkNames: '[name]-[hash]',
  entryPoints: { page: 'src/page.ts', style: 'style/page.css' },
  entryNames: 'page',
  format: 'esm',
  legalComments: 'none',
  logLevel: 'warning',
  minify: true,
  outdir,
  splitting: true,
  target: 'es2022'
});
