/** The built page (dist/wizard, made by Vite): read once, so that all that is served is of one build, and no path of a request meets a file system. */
import { readdir, readFile } from 'node:fs/promises';
import { extname, join, relative } from 'node:path';
import { VmStorageError } from '../../model/errors.js';

const types: { readonly [extension: string]: string } = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface PageFiles {
  get(path: string): { readonly type: string; readonly content: Buffer } | undefined;
}

export async function readPageFiles(folder: string): Promise<PageFiles> {
  const files = new Map<string, { type: string; content: Buffer }>();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause: unknown) => {
    throw new VmStorageError('ObjectNotFound', `The page of the wizard is not there: '${folder}' cannot be read. Run npm run build.`, {
      target: folder,
      cause,
    });
  });
  for (const entry of entries.sort((a, b) => (join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1))) {
    const type = types[extname(entry.name)];
    if (!entry.isFile() || type === undefined) continue;
    const path = join(entry.parentPath, entry.name);
    const content = await readFile(path);
    const name = `/${relative(folder, path)}`;
    files.set(name, { type, content });
  }
  const index = files.get('/index.html');
  if (!index)
    throw new VmStorageError('ObjectNotFound', `The page of the wizard is not complete: '${folder}' has no index.html. Run npm run build.`);
  files.set('/', index);
  return { get: (path) => files.get(path) };
}
