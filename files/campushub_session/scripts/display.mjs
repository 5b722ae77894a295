/** Builds the script and the style that pages of displays load: campushub_session/static. */

import { rm } from 'node:fs/promises';

import { build } from 'esbuild';

const outdir = 'campushub_session/static';
await rm(outdir, { recursive: true, force: true });
await build({
  bundle: true,
  entryPoints: { display: 'src/display.ts', style: 'style/display.css' },
  entryNames: 'display',
  format: 'esm',
  legalComments: 'none',
  logLevel: 'warning',
  minify: true,
  outdir,
  target: 'es2022'
});
