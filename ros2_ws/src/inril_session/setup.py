from setuptools import find_packages, setup

package_name = "inril_session"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="inril developers",
    maintainer_email="maintainers@inril.dev",
    description="People, episodes and what is kept of them: teleop, recorder, store and session.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "teleop_node = inril_session.teleop_node:main",
            "recorder_node = inril_session.recorder_node:main",
            "store_node = inril_session.store_node:main",
            "session_node = inril_session.session_node:main",
            "console_node = inril_session.console_node:main",
            "standard_topics = inril_session.standard_topics:main",
        ]
    },
)
