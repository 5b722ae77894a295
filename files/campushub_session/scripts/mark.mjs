/**
 * Writes what the built files were made from into campushub_session/labextension/built-from.txt: a test of the Python
 * half says when they are older than their sources. The sum is that of `sha256sum` over the names and contents.
 */

import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const found = ['package.json', 'tsconfig.json', 'yarn.lock'];
for (const directory of ['scripts', 'src', 'style']) {
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    if (entry.isFile() && !path.startsWith(join('src', 'test'))) {
      found.push(path);
    }
  }
}
const sum = createHash('sha256');
for (const path of found.sort()) {
  sum
    .update(`${path}\0`)
    .update(await readFile(path))
    .update('\0');
}
await writeFile('campushub_session/labextension/built-from.txt', `${sum.digest('hex')}\n`);
