/** The three curves. */

const AXIS = { font: "14px sans-serif", stroke: "#3c4450", grid: { stroke: "#e3e6ea" }, size: 48 };
const WINDOW = 10;

function plot(id, series, yRange) {
  const box = document.getElementById(id);
  const size = () => ({ width: Math.max(120, box.clientWidth), height: Math.max(90, box.clientHeight) });
  const chart = new uPlot(
    {
      ...size(), legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0],
      scales: { x: { time: false }, y: { range: yRange } }, axes: [{ ...AXIS, size: 30 }, AXIS], series: [{}, ...series],
    },
    [[], ...series.map(() => [])], box,
  );
  new ResizeObserver(() => chart.setSize(size())).observe(box);
  return chart;
}

export class Plots {
  constructor() {
    this.success = plot("plot-success", [{ stroke: "#1769c9", width: 3, points: { show: false } }], [0, 1.02]);
    const bars = uPlot.paths.bars({ size: [0.7, 40] });
    this.takeovers = plot("plot-takeovers", [{ stroke: "#8a4b08", fill: "#e0a050", paths: bars, points: { show: false } }],
      (_, __, high) => [0, Math.max(4, high ?? 0)]);
    this.disagreement = plot("plot-disagreement", [{ stroke: "#7a2fa0", width: 2, points: { show: true, size: 5 } }],
      (_, __, high) => [0, Math.max(0.5, high ?? 0)]);
  }

  showEpisodes(points) {
    const counted = points.filter((point) => point.valid);
    const numbers = counted.map((_, i) => i + 1);
    const mean = counted.map((_, i) => {
      const last = counted.slice(Math.max(0, i + 1 - WINDOW), i + 1);
      return last.filter((point) => point.success).length / last.length;
    });
    this.success.setData([numbers, mean]);
    this.takeovers.setData([numbers, counted.map((point) => (point.interventions < 0 ? null : point.interventions))]);
  }

  showDisagreement(message) {
    this.disagreement.setData([message.steps, message.distance]);
  }
}
