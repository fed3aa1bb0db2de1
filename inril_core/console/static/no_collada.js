/** Collada meshes are not drawn; a link that has one stays empty. */
export class ColladaLoader {
  load(path, done, progress, failed) {
    if (failed) failed(new Error(`${path}: Collada meshes are not drawn`));
  }
}
