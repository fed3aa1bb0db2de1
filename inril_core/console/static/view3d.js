/** The arm as it is measured, and its hand where it is commanded to be. Draws only when something has changed. */

import * as THREE from "three";
import { OrbitControls } from "/static/vendor/OrbitControls.js";
import URDFLoader from "/static/vendor/URDFLoader.js";
import { isCommanded } from "/static/readouts.js";

const GHOST = 0x1769c9;
const POSE_MS = 200; // between two drawings of a moving arm: a tablet's battery and a busy machine's processor pay for each

export class ArmView {
  /** Throws where the browser has no WebGL. */
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: "low-power" });
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(38, 1, 0.05, 20);
    this.camera.up.set(0, 0, 1);
    this.camera.position.set(1.6, -1.15, 0.9);
    this.orbit = new OrbitControls(this.camera, canvas);
    this.orbit.target.set(0.32, 0, 0.38);
    this.orbit.addEventListener("change", () => this.draw());
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0x777788, 2.2));
    const sun = new THREE.DirectionalLight(0xffffff, 1.8);
    sun.position.set(1, -2, 3);
    this.scene.add(sun);
    const grid = new THREE.GridHelper(2, 20, 0x8a8f98, 0xc9ccd2);
    grid.rotation.x = Math.PI / 2;
    this.scene.add(grid);
    this.measured = axes(0.09, 3);
    this.commanded = axes(0.13, 6, true);
    this.scene.add(this.measured, this.commanded);
    this.measured.visible = this.commanded.visible = false;
    this.waiting = false;
    this.posedAt = -Infinity;
    this.later = 0;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** The region that the tool may be in. */
  setLimits(low, high) {
    const box = new THREE.Box3(new THREE.Vector3(...low), new THREE.Vector3(...high));
    this.scene.add(new THREE.Box3Helper(box, 0x9aa0ab));
  }

  setRobot(text) {
    const loader = new URDFLoader();
    this.robot = loader.parse(text);
    this.robot.visible = false; // until it is known how it stands
    this.scene.add(this.robot);
    const joints = Object.values(this.robot.joints);
    this.hinges = joints.filter((joint) => joint.jointType === "revolute" || joint.jointType === "continuous");
    this.slides = joints.filter((joint) => joint.jointType === "prismatic");
    const tool = this.robot.links.tool;
    const hand = tool?.parent?.parent;
    if (hand?.isURDFLink) {
      this.robot.updateMatrixWorld(true);
      this.toolToHand = tool.matrixWorld.clone().invert().multiply(hand.matrixWorld);
      this.ghost = hand.clone();
      const material = new THREE.MeshBasicMaterial({ color: GHOST, transparent: true, opacity: 0.28, depthWrite: false });
      this.ghost.traverse((part) => { if (part.isMesh) part.material = material; });
      this.ghost.matrixAutoUpdate = false;
      this.ghost.visible = false;
      this.scene.add(this.ghost);
    }
    this.draw();
  }

  setPose(pose) {
    if (this.robot && pose.joints_rad.length) {
      this.hinges.slice(0, pose.joints_rad.length).forEach((joint, i) => joint.setJointValue(pose.joints_rad[i]));
      for (const joint of this.slides) joint.setJointValue((pose.gripper_width_m ?? 0) / 2);
      this.robot.visible = true;
    }
    place(this.measured, pose.measured);
    place(this.commanded, isCommanded(pose) ? pose.commanded : []);
    if (this.ghost) this.ghost.visible = this.commanded.visible;
    if (this.ghost?.visible) {
      this.commanded.updateMatrix();
      this.ghost.matrix.multiplyMatrices(this.commanded.matrix, this.toolToHand);
    }
    if (this.later) return;
    const wait = Math.max(0, this.posedAt + POSE_MS - performance.now());
    this.later = setTimeout(() => {
      this.later = 0;
      this.posedAt = performance.now();
      this.draw();
    }, wait);
  }

  draw() {
    if (this.waiting || document.hidden) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const { clientWidth: width, clientHeight: height } = this.canvas;
      if (!width || !height) return;
      const ratio = Math.min(devicePixelRatio, 2);
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.renderer.setPixelRatio(ratio);
        this.renderer.setSize(width, height, false);
        this.camera.aspect = width / height;
        this.camera.updateProjectionMatrix();
      }
      this.renderer.render(this.scene, this.camera);
    });
  }
}

function place(object, pose) {
  object.visible = pose.length === 7;
  if (!object.visible) return;
  object.position.set(pose[0], pose[1], pose[2]);
  object.quaternion.set(pose[3], pose[4], pose[5], pose[6]);
}

/** Red x, green y, blue z; the commanded ones are dashed. */
function axes(length, width, dashed = false) {
  const group = new THREE.Group();
  [[1, 0, 0, 0xd03030], [0, 1, 0, 0x2a9a3a], [0, 0, 1, 0x2a55d0]].forEach(([x, y, z, color]) => {
    const points = [new THREE.Vector3(), new THREE.Vector3(x * length, y * length, z * length)];
    const geometry = new THREE.BufferGeometry().setFromPoints(points);
    const kind = dashed ? THREE.LineDashedMaterial : THREE.LineBasicMaterial;
    const line = new THREE.Line(geometry, new kind({ color, linewidth: width, ...(dashed ? { dashSize: 0.012, gapSize: 0.008 } : {}) }));
    line.computeLineDistances();
    group.add(line);
  });
  return group;
}
